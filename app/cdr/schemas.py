"""The parts of a request for records (docs/internals/uapi.md#call-reports)."""

from marshmallow.validate import OneOf, Regexp

from app.caller_id import NUMBER
from app.web.cursor import CursorField
from app.web.dates import Date
from app.web.fields import ListQuery, Number, WholeNumber
from app.web.metadata import Pairs


def _number(code: str) -> Number:
    return Number(validate=Regexp(rf"\A{NUMBER}\Z|\ASandbox\Z"), metadata={"code": code})


class CdrQuery(ListQuery):
    """A query for records by two spans of time. ``startDate`` and ``endDate`` limit the acceptance
    of the call, ``saveStartDate`` and ``saveEndDate`` the last write of the record. Both ends of a
    span count, to the second."""

    cursor = CursorField()
    source = _number("cdr_source_invalid")
    destination = _number("cdr_destination_invalid")
    startDate = Date(metadata={"code": "cdr_start_date_invalid"})
    endDate = Date(metadata={"code": "cdr_end_date_invalid"})
    saveStartDate = Date(metadata={"code": "cdr_save_start_date_invalid"})
    saveEndDate = Date(metadata={"code": "cdr_save_end_date_invalid"})
    disposition = WholeNumber(
        validate=OneOf(range(6)), metadata={"code": "cdr_disposition_invalid"}
    )
    metadata = Pairs()
    flow = WholeNumber(validate=OneOf([2, 4, 8]), metadata={"code": "cdr_flow_invalid"})
