"""Signatures of deliveries, as the Standard Webhooks specification says."""

import base64
import hashlib
import hmac

PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """Give the key that a secret stands for, as Standard Webhooks says.

    Raises ValueError if it starts with `whsec_` and the rest is not base64, or nothing.
    """
    if secret.startswith(PREFIX):
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
        if not key:
            raise ValueError("the key is empty")
        return key
    return secret.encode()


def sign(secret: str, webhook_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message as the Standard Webhooks specification says."""
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    digest = hmac.digest(signing_key(secret), signed, hashlib.sha256)
    return "v1," + base64.b64encode(digest).decode()
