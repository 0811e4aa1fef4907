"""Signatures of deliveries, as specified by Standard Webhooks."""

import base64
import hashlib
import hmac

from fields import signing_key


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Return the signature of a message, as specified by Standard Webhooks."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.digest(signing_key(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()
