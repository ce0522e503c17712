"""What AWS says of a VPC."""

from __future__ import annotations

from kip.cloud.network import vpc_ranges


def test_a_vpc_has_its_primary_range_first_and_no_range_that_left() -> None:
    def association(cidr: str, state: str) -> dict[str, object]:
        return {"CidrBlock": cidr, "CidrBlockState": {"State": state}}

    answer = {
        "CidrBlock": "10.0.0.0/16",
        "CidrBlockAssociationSet": [
            association("100.64.0.0/16", "associated"),
            association("10.0.0.0/16", "associated"),
            association("100.65.0.0/16", "disassociated"),
        ],
    }
    assert vpc_ranges(answer) == ("10.0.0.0/16", "100.64.0.0/16")
    assert vpc_ranges({"CidrBlock": "10.0.0.0/16"}) == ("10.0.0.0/16",)
