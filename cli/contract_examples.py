"""The things that the examples of the contract tell of: one customer, one order, one product."""

from typing import Final

USER: Final = "0b9e6f0e-6f0c-4d3a-9a53-0d6a3d1c9b11"
ORDER: Final = "7f5b3a52-7d52-4a0b-8a36-5d0f4f0c2a77"
PRODUCT: Final = "5e1f8d8e-3a53-4a9e-9d0c-2f3b8b8f6a10"
AT: Final = "2026-01-31T09:30:00.123456Z"
CURSOR: Final = "WyIyMDI2LTAxLTMxIl0"

PASSWORD: Final = "correct horse battery staple"  # noqa: S105 - an example
SESSION: Final = {
    "token": "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.e30.c2lnbmF0dXJl",
    "tokenType": "Bearer",
    "expiresIn": 900,
    "refreshToken": "pOW1lZmFjZS1vcGFxdWUtYW5kLWdvb2Qtb25jZQ",
    "userId": USER,
    "message": "Welcome.",
}
ME: Final = {
    "id": USER,
    "email": "ada@example.com",
    "userName": "ada@example.com",
    "firstName": "Ada",
    "lastName": None,
    "phone": "+4915112345678",
    "role": "customer",
    "createdAt": AT,
}
LINE: Final = {"productId": PRODUCT, "productName": "Desk lamp", "quantity": 2, "price": 34.9}
SUMMARY: Final = {
    "id": ORDER,
    "userId": USER,
    "status": "Pending",
    "totalAmount": 69.8,
    "currency": "EUR",
    "createdAt": AT,
    "itemCount": 1,
}
PLACED: Final = {
    "id": ORDER,
    "userId": USER,
    "status": "Pending",
    "statusReason": None,
    "paymentStatus": "Pending",
    "totalAmount": 69.8,
    "currency": "EUR",
    "shippingAddress": None,
    "createdAt": AT,
    "updatedAt": AT,
    "items": [LINE],
    "allowedActions": ["cancel"],
}
LAMP: Final = {
    "id": PRODUCT,
    "name": "Desk lamp",
    "description": "Warm light, a heavy foot, a switch that clicks.",
    "price": 34.9,
    "currency": "EUR",
    "available": 118,
    "active": True,
    "createdAt": AT,
    "updatedAt": AT,
}
ENTRY: Final = {
    "id": ORDER,
    "kind": "adjusted",
    "delta": 5,
    "onHandAfter": 125,
    "reservedAfter": 2,
    "reason": "Five more were delivered.",
    "actor": USER,
    "at": AT,
}
STEP: Final = {
    "at": AT,
    "service": "orders",
    "event": "place by customer",
    "eventId": None,
    "causationId": None,
    "attempt": None,
    "outcome": "Pending",
    "note": "",
}
PAID: Final = {**PLACED, "status": "Confirmed", "paymentStatus": "Completed"}
PLACING: Final = {
    "number": 1,
    "at": AT,
    "event": "place",
    "fromStatus": None,
    "toStatus": "Pending",
    "actor": "customer",
    "note": "",
}
