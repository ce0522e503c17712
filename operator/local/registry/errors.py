"""What the registry answers when it cannot do as asked: the OCI distribution specification's errors."""

from __future__ import annotations

import json

from aiohttp import web


class RegistryError(Exception):
    """An answer other than success: HTTP status, the specification's code, and words for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message

    def response(self) -> web.Response:
        """The answer as the specification wants it."""
        body = {"errors": [{"code": self.code, "message": self.message}]}
        return web.Response(status=self.status, text=json.dumps(body), content_type="application/json")


def name_invalid(message: str) -> RegistryError:
    """The repository's name is malformed."""
    return RegistryError(400, "NAME_INVALID", message)


def name_unknown(name: str) -> RegistryError:
    """Nothing was ever put there."""
    return RegistryError(404, "NAME_UNKNOWN", f"repository {name} is not known")


def manifest_unknown(name: str, reference: str) -> RegistryError:
    """The repository has no such tag or digest."""
    return RegistryError(404, "MANIFEST_UNKNOWN", f"{name} has no {reference}")


def manifest_invalid(message: str) -> RegistryError:
    """The manifest that was sent is none."""
    return RegistryError(400, "MANIFEST_INVALID", message)


def manifest_blob_unknown(digest: str) -> RegistryError:
    """The manifest that was sent speaks of a blob that was not."""
    return RegistryError(400, "MANIFEST_BLOB_UNKNOWN", f"blob {digest} was not uploaded")


def blob_unknown(digest: str) -> RegistryError:
    """There is no such blob."""
    return RegistryError(404, "BLOB_UNKNOWN", f"no blob {digest}")


def digest_invalid(message: str) -> RegistryError:
    """A digest is malformed, or the content does not have it."""
    return RegistryError(400, "DIGEST_INVALID", message)


def upload_unknown(upload: str) -> RegistryError:
    """No such upload is under way; the registry may have been started anew."""
    return RegistryError(404, "BLOB_UPLOAD_UNKNOWN", f"no upload {upload} is under way; begin again")


def upload_out_of_order(message: str) -> RegistryError:
    """A chunk does not follow the one before."""
    return RegistryError(416, "BLOB_UPLOAD_INVALID", message)
