"""Words for reasons and causes, and the next step after each.

handlers/operate/RUNBOOK.md has a section for the code of each cause.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from handlers.core.errors import Cause, JoinguardError
from handlers.core.redrive.dead_letter import Queue
from handlers.core.redrive.explanations import Explanation, Reason
from handlers.operate.hints import as_typed

#: The next step after a message failed.
NEXT_STEPS: Final[Mapping[Cause, str]] = {
    Cause.POLICY_NOT_FOUND: "correct the stage's policies, deploy, redrive",
    Cause.POLICY_TYPE_DISABLED: "enable service control policies in the organization, redrive",
    Cause.TOO_MANY_POLICIES: "detach or merge a policy of the account, redrive",
    Cause.ACCESS_DENIED: (
        "the worker lacks a permission: `make status` compares its role, `make revert-drift` restores it; else a "
        "permissions boundary, an SCP or the delegation policy denies it; then redrive"
    ),
    Cause.FACTS_UNKNOWN: "AWS does not return what the rules need: change the rule, deploy, redrive",
    Cause.GUARDRAILS_CHANGED: (
        "find out in CloudTrail who changed it. If it was a mistake: restore the policy, drop. If it was meant: lock, "
        "deploy, drop"
    ),
    Cause.RESTORES_HALTED: (
        "find out in CloudTrail who detached them, and whether that was meant: redrive, or change the document and drop"
    ),
    Cause.RESTORES_STOPPED: (
        "find out in CloudTrail who detaches the policy. If you stopped it: redrive. If it is allowed: add an "
        "exception, deploy, drop"
    ),
    Cause.ACCOUNT_NOT_FOUND: "the account is not a member: drop, or invite the account and redrive",
    Cause.INVALID_INPUT: "Organizations rejects policy or target: correct the stage's policies, deploy, redrive",
    Cause.NO_ORGANIZATION: "the worker's account is in no organization: deploy in another account, redrive",
    Cause.WRONG_ENDPOINT: "the worker calls the wrong Region: `make revert-drift` restores its environment; redrive",
    Cause.INVALID_EVENT: "find out who sent it; edit the body, or drop",
    Cause.WRONG_ORGANIZATION: "find out who sent it; drop",
    Cause.MANAGEMENT_ACCOUNT: "find out who sent it; drop",
    Cause.CLAIMS_UNREADABLE: (
        "a row of the account's events is not as a worker writes it: see `outcome`, find out who wrote it; drop"
    ),
    Cause.OPEN_ATTEMPT: "another event of the account is not decided: see `outcome`, redrive or close it, redrive this",
    Cause.REMOVALS_OFF: "the stage removes no policies: set RemovePolicies, deploy, redrive; or drop",
    Cause.REMOVAL_LIMIT: (
        "find out whether the removals are meant; redrive tomorrow (UTC), or deploy with --approve DIGEST, redrive"
    ),
    Cause.RETRIES_EXHAUSTED: "see the outcome and the log for the cause; redrive when it is over",
}
_DEFAULT_STEP: Final = "read the reason, correct the cause, redrive; see handlers/operate/RUNBOOK.md#dead-letters"
_UNDELIVERED_STEP: Final = "`make revert-drift` restores the queue and its policy; redrive"

#: The next step after a call of the operator's own failed.
_AFTER: Final[Mapping[Cause, str]] = {
    Cause.ACCESS_DENIED: (
        "Your role lacks this permission. Use the stack's role OperatorReads to read and OperatorActs to act"
    ),
    Cause.CREDENTIALS_EXPIRED: "Your credentials have expired. Log in and run the command again",
    Cause.CREDENTIALS_INVALID: "Your credentials are not valid. Log in again",
    Cause.CREDENTIALS_MISSING: "Log in (aws sso login), or add --profile",
    Cause.CHANGED_MEANWHILE: "Run the command again",
    Cause.ARCHIVED: "The object is in an archive of S3. Restore it in S3 and run the command again",
    Cause.NOT_FOUND: "The object does not exist. `backups` lists the keys of backups",
    Cause.TOO_MANY_IN_FLIGHT: (
        "SQS allows about 120,000 messages in flight. Wait until others release theirs, or add --all --native"
    ),
    Cause.UNSUPPORTED: "SQS allows one move task at a time, and only from a dead-letter queue of another queue",
}
_DEFAULT_AFTER: Final = "Messages in flight become visible again within 15 minutes. Run the command again"

_RUNBOOK: Final = "See handlers/operate/RUNBOOK.md#a-verification-found-something"
#: The next steps after failures of the sealed log, by code.
_AFTER_LOG: Final = {
    "LOG_CHANGED": _RUNBOOK,
    "NO_CHECKPOINT": "A new installation signs its first one within half an hour; if this is a copy, download it again",
    "NOT_SIGNED": "Compare the key with the one that was noted after the first deployment. " + _RUNBOOK,
    "NOT_SEALED": "`verify --quick` says until when objects are sealed",
    "TILE_CHANGED": _RUNBOOK,
}

#: The sentence for each reason; its fields are the values of the explanation.
_SENTENCES: Final[dict[Reason, str]] = {
    Reason.INVALID_EVENT: "its body is unreadable; see `show`, then `edit` or `drop`",
    Reason.WRONG_ORGANIZATION: "it is about another organization; drop it",
    Reason.MANAGEMENT_ACCOUNT: "it is about the management account, which SCPs do not affect; drop the message",
    Reason.POLICY_TYPE_DISABLED: "the policy type {0} is not enabled in the organization; enable it",
    Reason.POLICY_NOT_FOUND: "policy {0} does not exist; correct the stage's policies and deploy",
    Reason.ACCOUNT_NOT_FOUND: "the account is not a member; drop the message, or invite the account",
    Reason.ACCOUNT_LEFT: "the account left the organization on {0}; drop the message",
    Reason.ACCOUNT_NOT_ACTIVE: "the account is {0}; drop the message",
    Reason.TOO_MANY_POLICIES: "the account carries {0} policies and has no room for {1} more; detach some",
    Reason.LIMIT_REACHED: (
        "no approved plan removes the policy, and the limit of today was used up; redrive tomorrow (UTC), deploy with "
        "--approve, or raise limits.removals, deploy and redrive with --force"
    ),
    Reason.APPROVAL_MISSING: (
        "no approved plan removes the policy, and limits.removals is 0; deploy with --approve, or raise the limit and "
        "deploy"
    ),
    Reason.GUARDRAILS_CHANGED: "it reports a change of the guardrails, which no redrive undoes; drop the message",
    Reason.REMOVALS_OFF: "the stage removes no policies; set RemovePolicies and deploy",
    Reason.ACCESS_DENIED: (
        "the worker's role may not attach ({0}); `make revert-drift` restores it, unless its boundary denies it"
    ),
    Reason.TOO_MANY_ATTRIBUTES: (
        "it has ten attributes, which leaves no room to count its redrives; `redrive --all --native` moves it"
    ),
    Reason.TOO_LARGE: (
        "it is as large as SQS allows, which leaves no room to count its redrives; `redrive --all --native` moves it"
    ),
    Reason.OVER_REDRIVE_LIMIT: "it was redriven {0} times; --max-redrives and --force allow more",
    Reason.ANOTHER_EVENT: (
        "the old body is about event {0} and the new one about {1}, so event {0} would stay unhandled; check the new "
        "body, or add --force"
    ),
    Reason.ANOTHER_ACCOUNT: (
        "the old body is about account {0} and the new one about {1}, so account {0} would stay without its policies; "
        "check the new body, or add --force"
    ),
    Reason.IN_ITS_QUEUE: "it is in its queue",
    Reason.RESTORED_BEFORE: "it was restored before",
    Reason.ORGANIZATIONS_UNAVAILABLE: "Organizations does not answer: {0}",
    Reason.PERMISSIONS_UNAVAILABLE: "whether the worker's role may attach, since IAM's simulator gives no answer: {0}",
    Reason.APPROVAL_UNAVAILABLE: "whether a plan was approved that removes the policy: {0}",
    Reason.ROLE_UNKNOWN: "whether the worker's role may attach, because the stack does not name the role; deploy",
    Reason.FIRST_MESSAGES: "waiting for the outcomes of the first {0}",
    Reason.OTHERS_FIRST: "waiting: more than {0} messages are in the queue, and they go first",
    Reason.CAUSE_REMAINS: "{0} messages failed again ({1}) of {2} sent; the cause is not corrected",
    Reason.NOTHING_DECIDED: "none of the first {0} has an outcome in 5 minutes. Run `make status`: is the worker on?",
    Reason.OTHERS_DELAYED: (
        "too many messages have been in the queue for 15 minutes. Run `make status`: is the worker on? If they only "
        "wait their turn, try again later"
    ),
}


#: The sentences where there is no message yet.
_WITHOUT_MESSAGE: Final[dict[Reason, str]] = {
    Reason.MANAGEMENT_ACCOUNT: "it is the management account, which SCPs do not affect",
    Reason.ACCOUNT_NOT_FOUND: "the account is not a member; invite it",
    Reason.ACCOUNT_NOT_ACTIVE: "the account is {0}",
}


def sentence(explanation: Explanation, *, message: bool = True) -> str:
    """Return an explanation in words; `message`: whether it is about a message, which can be dropped."""
    values = explanation.values
    if explanation.reason is Reason.ACCESS_DENIED:
        values = (", ".join(map(str, values)),)
    words = _SENTENCES if message else _SENTENCES | _WITHOUT_MESSAGE
    return as_typed(words[explanation.reason].format(*values))


def sentences(explanations: Iterable[Explanation], *, message: bool = True) -> str:
    """Return several explanations in words, in one line."""
    return "; ".join(sentence(each, message=message) for each in explanations)


def why(text: str) -> str:
    """Return the reason that a message carries, or what the lack of one means."""
    return text or "retries exhausted: SQS moved the message here after its last receive; see its outcome"


def next_step(cause: Cause, queue: Queue) -> str:
    """Return the next step after a message failed."""
    return as_typed(_UNDELIVERED_STEP if queue == "undelivered" else NEXT_STEPS.get(cause, _DEFAULT_STEP))


def next_step_after(error: JoinguardError) -> str:
    """Return the next step after a command of the operator's own failed."""
    return _AFTER_LOG.get(error.fault.code) or _AFTER.get(error.cause, _DEFAULT_AFTER)
