"""The registry's HTTP side: OCI distribution, API version 2, pull and push.

Every URL is `/v2/<name>/<action>`; the name has slashes in it, so the action is found from the end.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from aiohttp import web

from kip.local.registry import errors, manifests
from kip.local.registry.accounts import Accounts
from kip.local.registry.store import Store
from kip.oci.reference import InvalidName, Repository, names_registry, split_repository

# Names without a registry in them, from clients that know this registry by its own address.
_OWN = "registry.kip.local"
_CONTENT_RANGE = re.compile(r"(?:bytes )?(\d+)-(\d+)(?:/.*)?")
_STORE = web.AppKey("store", Store)
_ACCOUNTS = web.AppKey("accounts", Accounts)
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create(store: Store) -> web.Application:
    """The application that serves that content."""
    app = web.Application(middlewares=[_answer_errors])
    app[_STORE] = store
    app[_ACCOUNTS] = Accounts(store.root)
    name = "/v2/{name:.+}"
    app.router.add_get("/v2/", _version)
    app.router.add_get("/token", _token)
    app.router.add_get(f"{name}/manifests/{{reference}}", _get_manifest)
    app.router.add_put(f"{name}/manifests/{{reference}}", _put_manifest)
    app.router.add_get(f"{name}/tags/list", _list_tags)
    app.router.add_post(f"{name}/blobs/uploads/", _begin_upload)
    app.router.add_get(f"{name}/blobs/uploads/{{upload}}", _upload_status)
    app.router.add_patch(f"{name}/blobs/uploads/{{upload}}", _append_upload)
    app.router.add_put(f"{name}/blobs/uploads/{{upload}}", _finish_upload)
    app.router.add_delete(f"{name}/blobs/uploads/{{upload}}", _drop_upload)
    app.router.add_get(f"{name}/blobs/{{digest}}", _get_blob)
    return app


@web.middleware
async def _answer_errors(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except errors.RegistryError as error:
        return error.response()
    except web.HTTPNotFound:
        return errors.RegistryError(404, "UNSUPPORTED", f"{request.path} is nothing").response()
    except web.HTTPMethodNotAllowed:
        return errors.RegistryError(405, "UNSUPPORTED", f"no {request.method} {request.path}").response()


def repository_of(name: str, namespace: str | None) -> Repository:
    """The repository that a request means.

    containerd says the registry in `ns`. Without it the name may begin with one (`skopeo copy … docker://HOST/
    quay.io/team/app:1` puts an image here under quay.io's name), else the image is this registry's own.

    Raises:
        RegistryError: registry or name is malformed.
    """
    try:
        if namespace:
            return Repository(namespace, name)
        if names_registry(name.partition("/")[0]):
            return split_repository(name)
        return Repository(_OWN, name)
    except InvalidName as error:
        raise errors.name_invalid(str(error)) from error


def _repository(request: web.Request) -> Repository:
    """The repository that is meant. Raises RegistryError, also where it wants a login that did not come."""
    repository = repository_of(request.match_info["name"], request.query.get("ns"))
    request.app[_ACCOUNTS].check(request, repository)
    return repository


async def _token(request: web.Request) -> web.Response:
    return request.app[_ACCOUNTS].token(request)


async def _version(_request: web.Request) -> web.Response:
    return web.json_response({}, headers={"Docker-Distribution-API-Version": "registry/2.0"})


async def _get_manifest(request: web.Request) -> web.StreamResponse:
    manifest = request.app[_STORE].manifest(_repository(request), request.match_info["reference"])
    return web.Response(
        body=manifest.path.read_bytes(),
        headers={"Content-Type": manifest.media_type, "Docker-Content-Digest": manifest.digest},
    )


async def _put_manifest(request: web.Request) -> web.Response:
    repository = _repository(request)
    store = request.app[_STORE]
    content = await _body(request, manifests.LARGEST)
    media_type = manifests.check(content, request.content_type, store.has_blob)
    digest = store.put_manifest(repository, request.match_info["reference"], content, media_type)
    return web.Response(
        status=201,
        headers={
            "Location": _location(request, "manifests", digest),
            "Docker-Content-Digest": digest,
        },
    )


async def _list_tags(request: web.Request) -> web.Response:
    tags = request.app[_STORE].tags(_repository(request))
    if last := request.query.get("last"):
        tags = [tag for tag in tags if tag > last]
    headers = {}
    if (limit := request.query.get("n", "")).isdecimal() and int(limit) < len(tags):
        tags = tags[: int(limit)]
        if tags:
            more = request.url.update_query(last=tags[-1]).relative()
            headers["Link"] = f'<{more}>; rel="next"'
    return web.json_response({"name": request.match_info["name"], "tags": tags}, headers=headers)


async def _get_blob(request: web.Request) -> web.StreamResponse:
    _repository(request)
    digest = request.match_info["digest"]
    path = request.app[_STORE].blob(digest)
    # FileResponse answers HEAD, Range and If-Range.
    return web.FileResponse(
        path,
        headers={"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest},
    )


async def _begin_upload(request: web.Request) -> web.Response:
    _repository(request)
    store = request.app[_STORE]
    known = request.query.get("mount")
    if known and store.has_blob(known):
        return _blob_created(request, known)
    upload = store.begin_upload()
    if digest := request.query.get("digest"):
        await _receive(request, upload)
        await asyncio.to_thread(store.finish_upload, upload, digest)
        return _blob_created(request, digest)
    return _upload_accepted(request, upload)


async def _append_upload(request: web.Request) -> web.Response:
    upload = request.match_info["upload"]
    _check_order(request, request.app[_STORE].uploaded(upload))
    await _receive(request, upload)
    return _upload_accepted(request, upload)


async def _finish_upload(request: web.Request) -> web.Response:
    store, upload = request.app[_STORE], request.match_info["upload"]
    _check_order(request, store.uploaded(upload))
    await _receive(request, upload)
    digest = request.query.get("digest", "")
    await asyncio.to_thread(store.finish_upload, upload, digest)
    return _blob_created(request, digest)


async def _upload_status(request: web.Request) -> web.Response:
    return _upload_accepted(request, request.match_info["upload"], status=204)


async def _drop_upload(request: web.Request) -> web.Response:
    request.app[_STORE].drop_upload(request.match_info["upload"])
    return web.Response(status=204)


def _check_order(request: web.Request, uploaded: int) -> None:
    told = request.headers.get("Content-Range")
    if told is None:
        return
    found = _CONTENT_RANGE.fullmatch(told)
    if not found or int(found[1]) != uploaded:
        raise errors.upload_out_of_order(f"Content-Range {told!r}: expected one that begins at {uploaded}")


async def _receive(request: web.Request, upload: str) -> None:
    with request.app[_STORE].appending(upload) as file:
        async for chunk in request.content.iter_any():
            file.write(chunk)


async def _body(request: web.Request, largest: int) -> bytes:
    content = bytearray()
    async for chunk in request.content.iter_any():
        content += chunk
        if len(content) > largest:
            raise errors.RegistryError(413, "MANIFEST_INVALID", f"a manifest of more than {largest} bytes")
    return bytes(content)


def _upload_accepted(request: web.Request, upload: str, status: int = 202) -> web.Response:
    size = request.app[_STORE].uploaded(upload)
    return web.Response(
        status=status,
        headers={
            "Location": _location(request, "blobs/uploads", upload),
            # The specification's form: the last byte's position, also of nothing.
            "Range": f"0-{max(size - 1, 0)}",
            "Docker-Upload-UUID": upload,
        },
    )


def _blob_created(request: web.Request, digest: str) -> web.Response:
    return web.Response(
        status=201,
        headers={"Location": _location(request, "blobs", digest), "Docker-Content-Digest": digest},
    )


def _location(request: web.Request, kind: str, what: str) -> str:
    path = f"/v2/{request.match_info['name']}/{kind}/{what}"
    namespace = request.query.get("ns")
    return f"{path}?ns={namespace}" if namespace else path
