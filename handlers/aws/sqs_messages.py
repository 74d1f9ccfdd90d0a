"""What both users of the queues send: a message's trace header, as the SDK spells it."""

from typing import Any


def trace_header_parameters(header: str | None) -> dict[str, Any]:
    """Return the parameters that send a message with its trace header."""
    if header is None:
        return {}
    return {"MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": header}}}
