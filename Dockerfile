# Kip's image: every command of `kip` but those of the local world. `make image` builds it, with docker or buildah.
#
# The base is Debian 12, whose Python is the one that the tests run on. BASE may be any image of Debian 12: a mirror's,
# or the one that `make image BASE=debootstrap` makes where no registry can be reached. The digest is that of an index
# with amd64 and arm64 in it; --platform chooses.
ARG BASE=docker.io/library/debian:bookworm-slim@sha256:7b140f374b289a7c2befc338f42ebe6441b7ea838a042bbd5acbfca6ec875818

FROM ${BASE} AS runtime
# mksquashfs packs layers for the image cache; the certificates are for AWS.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 squashfs-tools \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
    && echo 'kip:x:65532:65532:Kip:/tmp:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'kip:x:65532:' >>/etc/group

FROM runtime AS dependencies
RUN apt-get update && apt-get install --yes --no-install-recommends python3-pip python3-venv
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
COPY requirements.lock requirements-runtime.lock ./
# Wheels only, each with its hash: no compiler is needed, here or later. The secret `ca` is for builds behind a proxy
# that has an authority of its own. Kip itself comes into a directory, and so a layer, of its own: it changes most often.
RUN --mount=type=secret,id=ca \
    if [ -f /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python3 -m venv --without-pip /opt/python \
    && echo /opt/kip >"$(echo /opt/python/lib/python3*/site-packages)/kip.pth" \
    && python3 -m pip --python /opt/python/bin/python install \
        --only-binary :all: --require-hashes --requirement requirements-runtime.lock \
    && awk '/^[^ #]/ { wanted = /^setuptools==/ } wanted' requirements.lock >build.lock \
    && python3 -m pip install \
        --target tools --only-binary :all: --require-hashes --requirement build.lock

FROM dependencies AS build
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY crds crds
COPY deploy deploy
COPY operator operator
RUN PYTHONPATH=tools python3 -m pip --python /opt/python/bin/python install \
        --no-deps --no-build-isolation --target /opt/kip . \
    && cp LICENSE /opt/kip/

FROM runtime
COPY --from=dependencies /opt/python /opt/python
COPY --from=build /opt/kip /opt/kip
# pip has compiled all of it, and the root is read-only in the cluster. USER is asked for by libraries that want to know
# who they are, also where a cluster chooses another number.
ENV PATH=/opt/kip/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp USER=kip PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
ENTRYPOINT ["kip"]
CMD ["--help"]
ARG VERSION=0
LABEL org.opencontainers.image.title="Kip" \
    org.opencontainers.image.description="A virtual Kubernetes node whose pods each run on their own EC2 instance" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.version="${VERSION}"
