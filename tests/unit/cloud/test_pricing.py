"""Prices out of AWS's price list."""

from __future__ import annotations

import copy
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import botocore.loaders
import botocore.session
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from botocore.model import Shape
from botocore.validate import ParamValidator

from kip.cloud.errors import NotAuthorized
from kip.cloud.pricing import AwsPriceList, api_region, price_list, prices
from kip.cloud.ratelimit import Rate
from kip.cloud.sdk import SdkSettings, Session
from kip.model.clock import SystemClock

AT_ONCE = Rate(burst=100, per_second=100)


# What AWS has published of its API with the SDK: the shapes of question and answer, and an answer.
_API = botocore.session.Session().get_service_model("pricing").operation_model("GetProducts")
_EXAMPLES = botocore.loaders.create_loader().load_service_model("pricing", "examples-1")["examples"]
_EXAMPLE: Any = _EXAMPLES["GetProducts"][0]["output"]


def as_published(message: dict[str, Any], shape: Shape | None) -> dict[str, Any]:
    """The message, which has that shape."""
    report = ParamValidator().validate(message, shape)
    assert not report.has_errors(), report.generate_report()
    return message


def product(instance_type: str, usd: str, *, unit: str = "Hrs", currency: str = "USD") -> str:
    """AWS's example, with other attributes and another price; a reservation's, which counts for nothing, comes along."""
    entry = json.loads(_EXAMPLE["PriceList"][0])
    entry["product"] |= {"productFamily": "Compute Instance"}
    entry["product"]["attributes"] |= {"instanceType": instance_type, "vcpu": "2", "tenancy": "Shared"}
    entry["terms"]["Reserved"] = copy.deepcopy(entry["terms"]["OnDemand"])
    for kind, price in (("OnDemand", {currency: usd}), ("Reserved", {"USD": "0.0001"})):
        (term,) = entry["terms"][kind].values()
        (dimension,) = term["priceDimensions"].values()
        dimension |= {"unit": unit, "pricePerUnit": price}
    return json.dumps(entry)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (product("m7i.large", "0.1008000000"), [("m7i.large", 0.1008)]),
        # Some products of the list cost nothing: they are another entry's reservations and dedicated hosts.
        (product("m7i.large", "0.0000000000"), []),
        (product("m7i.large", "12", unit="Quantity"), []),
        (product("m7i.large", "0.7", currency="CNY"), []),
        ('{"product": {"attributes": {}}, "terms": {}}', []),
        (_EXAMPLE["PriceList"][0], []),
        ("nonsense", []),
        ('{"terms": []}', []),
    ],
)
def test_a_product(text: str, expected: list[tuple[str, float]]) -> None:
    assert list(prices(text)) == expected


@pytest.mark.parametrize(
    ("region", "api"),
    [
        ("us-west-2", "us-east-1"),
        ("sa-east-1", "us-east-1"),
        ("eu-north-1", "eu-central-1"),
        ("ap-northeast-3", "ap-south-1"),
        ("cn-north-1", None),
        ("us-gov-west-1", None),
    ],
)
def test_few_regions_have_the_price_list(region: str, api: str | None) -> None:
    assert api_region(region) == api


@pytest.mark.parametrize(
    ("region", "endpoint_url", "asked"),
    [
        ("us-west-2", None, True),
        ("cn-north-1", None, False),
        ("us-west-2", "http://127.0.0.1:1", False),
    ],
)
def test_where_there_is_nobody_to_ask(region: str, endpoint_url: str | None, asked: bool) -> None:
    session = Session(SdkSettings(region=region, endpoint_url=endpoint_url))
    assert (price_list(session, region, SystemClock()) is not None) is asked


def page(token: str, *products: str) -> dict[str, Any]:
    """An answer; AWS's last page has an empty token or none."""
    return as_published({**_EXAMPLE, "PriceList": [*products], "NextToken": token}, _API.output_shape)


class Shop:
    """The price list's API in two pages, or its refusal."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.refusal: str | None = None

    async def answer(self, request: web.Request) -> web.Response:
        assert request.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
        assert "/us-east-1/pricing/" in request.headers["Authorization"]
        question = as_published(json.loads(await request.text()), _API.input_shape)
        self.asked.append(question)
        body: dict[str, Any]
        if self.refusal:
            body = {"__type": self.refusal, "message": "no identity-based policy allows it"}
        elif "NextToken" not in question:
            body = page("2", product("m7i.large", "0.1"), product("c7i.large", "0.09"))
        else:
            body = page("", product("t3.nano", "0.005"))
        return web.json_response(
            body, status=400 if self.refusal else 200, content_type="application/x-amz-json-1.1"
        )


@asynccontextmanager
async def shop_open(monkeypatch: pytest.MonkeyPatch, shop: Shop) -> AsyncIterator[AwsPriceList]:
    app = web.Application()
    app.router.add_post("/", shop.answer)
    async with TestServer(app) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_PRICING", str(server.make_url("/")))
        # Where EC2 is says nothing about where prices are.
        settings = SdkSettings(
            region="us-west-2",
            endpoint_url="http://127.0.0.1:1",
            access_key_id="test",
            secret_access_key="test",
            max_attempts=1,
        )
        session = Session(settings)
        yield AwsPriceList(lambda: session.pricing("us-east-1"), "us-west-2", SystemClock(), calls=AT_ONCE)


async def test_all_pages_of_linux_on_shared_hardware(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    async with shop_open(monkeypatch, shop) as subject:
        assert await subject.on_demand() == {"m7i.large": 0.1, "c7i.large": 0.09, "t3.nano": 0.005}
    first, second = shop.asked
    assert {f["Field"]: f["Value"] for f in first["Filters"]} == {
        "regionCode": "us-west-2",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
    }
    assert second == {**first, "NextToken": "2"}


async def test_a_refusal_names_the_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Shop()
    shop.refusal = "AccessDeniedException"
    async with shop_open(monkeypatch, shop) as subject:
        with pytest.raises(NotAuthorized) as caught:
            await subject.on_demand()
    assert caught.value.permission == "pricing:GetProducts"
