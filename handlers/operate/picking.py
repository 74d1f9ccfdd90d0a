"""Find the one message that a command is about."""

from handlers.core.redrive.dead_letter import DeadLetter
from handlers.core.redrive.in_flight import InFlight
from handlers.core.redrive.selection import identified
from handlers.operate.context import Context
from handlers.operate.errors import OperateError
from handlers.operate.progress import elsewhere, receive_marked


def pick(context: Context, in_flight: InFlight, id_: str) -> DeadLetter:
    """Receive all messages; return the one with a message or event id, or with its beginning.

    Raises OperateError if there is none or more than one.
    """
    found = identified(receive_marked(context, in_flight), id_)
    if len(found) == 1:
        return found[0]
    if found:
        few = ", ".join(each.message_id for each in found[:4])
        raise OperateError(f"{len(found)} messages have the event id {id_} ({few}). Use a message id")
    if in_flight.elsewhere:
        raise OperateError(f"no visible message has the id {id_}; {elsewhere(in_flight.elsewhere)}. Try again then")
    raise OperateError(f"no message has the id {id_}. `list` shows some ids of each group, `list --json` more")
