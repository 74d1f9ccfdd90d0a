"""The sections about the records themselves: configuration, integrity, what is not proven, and controls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from handlers.core.plurals import agree, count
from handlers.operate.pack import words
from handlers.operate.pack.report import Column, Section, table
from schemas.pack import ProofState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from schemas.pack import Pack

_SHORT: Final = 16


def configuration(pack: Pack) -> Section:
    """Return the section about what was in force."""
    listed = table(
        "deployments",
        "Configurations that were in force, with who deployed them and what was approved",
        (
            Column("From (UTC)", 1.6),
            Column("Until (UTC)", 1.6),
            Column("Guardrails", 1.8, "id"),
            Column("Attaches to", 1),
            Column("Removes", 0.9),
            Column("Approved plan", 1.8, "id"),
            Column("Code and commit", 2, "id"),
            Column("Who", 2.6, "id"),
            Column("Why", 2),
        ),
        [
            (
                words.moment(each.record.recorded_at),
                words.moment(each.until) or "in force",
                _short(each.record.guardrails),
                f"{each.record.attaches_to}" if isinstance(each.record.attaches_to, str) else "named accounts",
                {True: "yes", False: "no", None: ""}[each.record.removes],
                _short(each.record.approved_plan),
                " ".join(filter(None, (_short(each.record.code), _short(each.record.commit)))),
                each.record.actor_name.value,
                each.record.reason,
            )
            for each in pack.deployments
        ],
        empty="No record of a configuration.",
    )
    known = {(policy.policy_id, policy.sha256): None for each in pack.deployments for policy in each.record.policies}
    policies = table(
        "policies",
        "Policies that the worker may attach, with the hash of their content when the guardrails were locked",
        (Column("Policy", 1, "id"), Column("Name", 1.4), Column("SHA-256 of its content", 3.4, "id")),
        [
            (policy_id, pack.policy_names.get(policy_id, ""), sha256 or "not recorded (short form)")
            for policy_id, sha256 in known
        ],
    )
    lead = [
        "Each record of the period names the SHA-256 of the guardrails by which it was decided.",
        "Hashes are shortened here; deployments.csv has them in full.",
    ]
    return Section("configuration", "Configuration in force", lead, (listed, policies))


def _short(digest: str | None) -> str:
    return f"{digest[:_SHORT]}…" if digest else ""


def integrity(pack: Pack) -> Section:
    """Return the section about whether the record is whole."""
    verified = pack.verification
    lead = [words.integrity(pack).sentence]
    tables = []
    if verified is None or pack.not_verified:
        lead.append(f"To verify it, run: {pack.verify_command}")
    if verified:
        figures = {
            "Log": verified.origin,
            "Size of the last checkpoint": count(verified.size, "record"),
            "Root of the last checkpoint": verified.root,
            "Verified from and to (UTC)": f"{words.moment(verified.since) or 'the beginning'} to "
            f"{words.moment(verified.until) or 'the end'}",
            "Ended (UTC)": words.moment(verified.ended_at),
            "Checkpoints compared": f"{verified.checkpoints:,}",
            "Objects as they were sealed": f"{verified.valid:,}",
            **{f"Findings: {kind}": f"{number:,}" for kind, number in verified.found.items()},
        }
        tables.append(
            table(
                "verification",
                "Verification of the sealed log",
                (Column("What", 1), Column("Result", 3, "id")),
                figures.items(),
            )
        )
        tables.append(
            table(
                "findings",
                "Findings of the verification",
                (
                    Column("Kind", 1),
                    Column("What", 3, "id"),
                    Column("Meaning", 3),
                    Column("Next step", 3),
                ),
                [(each.kind.value, each.what, each.meaning, each.next_step) for each in verified.findings],
            )
        )
    tables.append(
        table(
            "disagreements-table",
            "Evidence of the period's outcomes that is missing or wrong, each object",
            (
                Column("Account", 2.8, "id"),
                Column("Event", 1.6),
                Column("Time (UTC)", 1.6),
                Column("What", 1.2, tones=dict.fromkeys(words.WRONG.values(), "bad")),
                Column("Evidence", 4, "id"),
            ),
            [
                (
                    each.account or "none",
                    each.event_name,
                    words.moment(each.event_time),
                    words.WRONG[each.what],
                    each.evidence_key or "the outcome names none",
                )
                for each in pack.disagreements
            ],
            empty="None: the evidence of each outcome that was read is there, and is what was written.",
        )
    )
    tables.append(
        table(
            "sources",
            "What the pack was made of",
            (
                Column("Source", 1.4),
                Column("Read", 1, "number"),
                Column("Not read or not usable", 1.4, "number"),
                Column("First problem", 4),
            ),
            [(each.source, f"{each.read:,}", f"{each.unread:,}", each.problem or "") for each in pack.sources],
        )
    )
    lead.extend(_proofs(pack))
    lead.append(
        "manifest.json holds the SHA-256 and size of every file of the pack; objects.csv holds those of every object "
        "of the evidence bucket that was read, so that any of them can be compared with the bucket."
    )
    return Section("integrity", "Integrity of the record", lead, tables)


def _proofs(pack: Pack) -> Iterator[str]:
    """Yield what the folder with the proofs holds, and how to check it."""
    if not pack.sealed_at:
        return
    proved = words.proofs(pack)[ProofState.PROVED]
    objects = f"Of {count(len(pack.objects), 'object')} that the pack was made of"
    leads = f"the signed checkpoint of the log with {count(pack.sealed_at.size, 'record')}"
    if proved:
        yield (
            f"{objects}, {proved:,} {agree(proved, 'is', 'are')} as sealed. For each, proofs/proofs.zip holds a proof "
            f"that leads to {leads}. proofs/README.txt says how to check one without AWS."
        )
    elif pack.objects:
        yield f"{objects}, none is shown to be as sealed by {leads}."
    else:
        yield f"The pack was made of no objects, so proofs/proofs.zip is empty. The folder proofs holds {leads}."
    yield (
        "Compare the public key of the log with the one that was noted at the first deployment: "
        f"{', '.join(pack.sealed_at.keys)}"
    )


def unproven(pack: Pack) -> Section:
    """Return the section about what is not proven."""
    own = [each.text for each in pack.unproven if not each.is_general]
    general = [each.text for each in pack.unproven if each.is_general]
    lead = ["Of this pack:"] if own else ["Nothing is missing in this pack. Of every pack:"]
    return Section("unproven", "What is not proven", lead, points=[*own, *general])


def controls(pack: Pack) -> Section:
    """Return the section about the controls, and what shows each claim."""
    columns = (
        Column("Control", 1),
        Column("Title", 2),
        Column("What Joinguard does", 4),
        Column("Tests of the product that show it", 4.6, "path"),
        Column("Commands", 1.4, "id"),
        Column("Sections here", 1.8),
    )
    tables = [
        table(
            f"controls-{number}",
            f"{framework}: what Joinguard does for it, and what shows that",
            columns,
            [
                (
                    each.reference,
                    each.title,
                    each.claim,
                    "\n".join(each.tests),
                    "\n".join(f"joinguard {command}" for command in each.commands),
                    ", ".join(words.TITLES[name] for name in each.sections),
                )
                for each in pack.controls
                if each.framework == framework
            ],
        )
        for number, framework in enumerate(dict.fromkeys(each.framework for each in pack.controls), 1)
    ]
    lead = [
        (
            "The tests are files of Joinguard's repository, and run at every change. The commands show the same for "
            "this installation."
        )
    ]
    return Section("controls", "Controls", lead, tables)
