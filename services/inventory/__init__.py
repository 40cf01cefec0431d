"""What there is to sell, and for whom it is set aside.

Owns products, their stock, reservations and the stock ledger (``inventoryservice_db``).
Publishes InventoryReservedEvent, InventoryReservationFailedEvent, InventoryReleasedEvent and ProductChangedEvent.
Reacts to OrderCreatedEvent, OrderCancelledEvent and OrderShippedEvent.
"""
