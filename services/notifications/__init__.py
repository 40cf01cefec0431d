"""Notifications: what customers are told about their orders, by e-mail and SMS, once per order and kind.

Owns nothing durable: Redis remembers what was sent, the mailbox keeps its own book. Publishes nothing. Reacts to
InventoryReservationFailedEvent of inventory, PaymentProcessedEvent, PaymentFailedEvent and PaymentRefundedEvent of
payments, OrderConfirmedEvent, OrderCancelledEvent, OrderShippedEvent and OrderDeliveredEvent of orders.
"""
