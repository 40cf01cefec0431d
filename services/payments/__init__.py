"""What was charged for an order, and what was given back.

Owns payments and the attempts made for them (``paymentservice_db``); the simulated card processor keeps its own book in
the schema ``processor`` beside them.
Publishes PaymentProcessedEvent, PaymentFailedEvent, PaymentVoidedEvent and PaymentRefundedEvent.
Reacts to InventoryReservedEvent and OrderCancelledEvent.
"""
