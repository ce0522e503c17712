"""Where exceptions of AWS and of its SDK become those of `kip.cloud.errors`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from botocore import exceptions as aws
from botocore.parsers import ResponseParserError

from kip.cloud.errors import InvalidRequest, NotAuthorized, Unreachable, from_code


@contextmanager
def border(action: str) -> Iterator[None]:
    """AWS's and the SDK's exceptions leave in our words; an exception that is neither leaves as it is."""
    try:
        yield
    except aws.ClientError as error:
        detail = error.response.get("Error", {})
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 400))
        code, message = str(detail.get("Code", "")), str(detail.get("Message", ""))
        raise from_code(action, code, message, http_status=status) from error
    except (aws.NoCredentialsError, aws.PartialCredentialsError, aws.CredentialRetrievalError) as error:
        raise NotAuthorized(f"no AWS credentials: {error}", action=action, code="NoCredentials") from error
    except (aws.ParamValidationError, aws.NoRegionError, aws.InvalidRegionError) as error:
        raise InvalidRequest(str(error), action=action) from error
    except (aws.BotoCoreError, ResponseParserError, TimeoutError, OSError) as error:
        raise Unreachable(f"no usable answer: {error}", action=action) from error
