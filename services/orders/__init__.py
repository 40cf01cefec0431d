"""Orders: what customers ordered, and the only place where an order's status is decided.

Owns orders, their items and history, a small copy of the catalogue, and idempotency keys (orderservice_db).
Publishes OrderCreatedEvent, OrderConfirmedEvent, OrderCancelledEvent, OrderShippedEvent, OrderDeliveredEvent.
Reacts to PaymentProcessedEvent, PaymentFailedEvent, PaymentVoidedEvent and PaymentRefundedEvent of payments, to
InventoryReservationFailedEvent, InventoryReleasedEvent and ProductChangedEvent of inventory.
"""
