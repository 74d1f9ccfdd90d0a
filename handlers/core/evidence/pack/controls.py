"""Which controls of SOC 2 and of ISO/IEC 27001:2022 Joinguard helps with, and what shows each claim.

The references are those of the AICPA's Trust Services Criteria (2017, with the points of focus of 2022) and of Annex A
of ISO/IEC 27001:2022. A claim is about Joinguard, never about the whole control, which has parts that no tool has.
"""

from typing import Final

from schemas.pack import Control

_SOC2: Final = "SOC 2"
_ISO: Final = "ISO/IEC 27001:2022"

CONTROLS: Final = (
    Control(
        framework=_SOC2,
        reference="CC6.1",
        title="Logical access security over protected information assets",
        claim=(
            "Every account that joins is evaluated, and gets the preventive policies that the guardrails require. "
            "A policy that fails does not keep the others from being attached."
        ),
        tests=(
            "tests/unit/test_enforce.py::test_a_policy_that_fails_does_not_keep_the_others_from_being_attached",
            "tests/unit/test_model.py::test_the_records_agree_with_whatever_happens",
        ),
        commands=("coverage", "outcome"),
        sections=("joins", "coverage"),
    ),
    Control(
        framework=_SOC2,
        reference="CC6.3",
        title="Access is authorized, changed and removed with least privilege",
        claim=(
            "The worker attaches the named policies alone, and cannot detach any. What is removed is only what "
            "Joinguard attached, within a daily limit or by an approved plan."
        ),
        tests=(
            "tests/infra/test_template.py::test_the_worker_may_attach_only_the_named_policies_and_nothing_if_it_only_observes",
            "tests/infra/test_template.py::test_one_worker_never_detaches_and_the_other_never_attaches",
            "tests/e2e/test_least_privilege.py::test_the_role_denies_the_call",
        ),
        commands=("plan", "explain"),
        sections=("changes", "exceptions"),
    ),
    Control(
        framework=_SOC2,
        reference="CC6.6",
        title="Measures against threats from outside the system boundaries",
        claim=(
            "Only the named senders can put a message on a queue, only over TLS, and no body of a message that "
            "others wrote leads to an attachment that the guardrails do not require."
        ),
        tests=(
            "tests/infra/test_resource_policies.py::test_only_the_named_callers_can_send_even_with_full_access_in_iam",
            "tests/infra/test_resource_policies.py::test_nobody_can_send_without_tls",
            "tests/unit/test_enforce.py::test_joins_of_another_organization_or_the_management_account_fail",
        ),
        commands=("list", "show"),
        sections=("failures",),
    ),
    Control(
        framework=_SOC2,
        reference="CC7.1",
        title="Detection of changes to configurations",
        claim=(
            "A sweep compares every account with what it must carry, and a policy that somebody detaches is "
            "reported with who did it and put back."
        ),
        tests=(
            "tests/unit/test_model_of_sweeps.py::test_after_two_sweeps_every_member_carries_what_it_needs_or_it_is_known_why_not",
            "tests/infra/test_template.py::test_the_age_of_the_last_sweep_pages_after_three_intervals_and_if_nothing_publishes_it",
        ),
        commands=("sweep", "coverage"),
        sections=("coverage", "changes"),
    ),
    Control(
        framework=_SOC2,
        reference="CC7.2",
        title="Monitoring of system components for anomalies",
        claim=(
            "Rehearsals travel the whole path of a join on a schedule, so that silence is told from quiet. A "
            "failed join, a lost rehearsal and a record that somebody else wrote set off alarms."
        ),
        tests=(
            "tests/infra/test_template.py::test_three_lost_rehearsals_set_off_an_alarm_and_so_does_a_worker_that_publishes_nothing",
            "tests/infra/test_template.py::test_a_failed_join_pages_although_the_queues_metrics_may_be_late",
            "tests/infra/test_template.py::test_one_record_that_somebody_else_may_have_written_sets_off_an_alarm",
        ),
        commands=("rehearse", "outcomes"),
        sections=("rehearsals", "failures"),
    ),
    Control(
        framework=_SOC2,
        reference="CC7.4",
        title="Response to identified security events",
        claim=(
            "Every failure waits with its reason until somebody acts, no failure loses a message, and each action "
            "of an operator is on record before it begins."
        ),
        tests=(
            "tests/e2e/test_faults.py::test_a_single_failure_of_any_call_loses_nothing",
            "tests/unit/test_audit.py::test_an_action_whose_record_cannot_be_written_is_not_performed",
            "tests/e2e/test_operate_faults.py::test_a_killed_process_loses_nothing_and_a_second_run_finishes",
        ),
        commands=("redrive", "actions"),
        sections=("failures", "actions"),
    ),
    Control(
        framework=_SOC2,
        reference="CC8.1",
        title="Changes are authorized, tested, approved and documented",
        claim=(
            "Each deployment is recorded with its guardrails, code, commit, plan, and who made it. More removals "
            "than the limit need the approval of that very plan."
        ),
        tests=(
            "tests/integration/test_recording.py::test_the_record_says_whether_policies_are_removed_and_which_plan_was_approved",
            "tests/infra/test_approving.py::test_a_plan_above_the_limit_is_refused_with_the_number_the_limit_the_digest_and_the_next_step",
        ),
        commands=("plan", "lock"),
        sections=("configuration",),
    ),
    Control(
        framework=_ISO,
        reference="A.5.15",
        title="Access control",
        claim=(
            "One document says which policies which accounts must carry. One evaluator reads it for worker, "
            "sweep, plan and report."
        ),
        tests=(
            "tests/unit/test_evaluate.py::test_the_evaluator_says_what_a_naive_one_says",
            "tests/unit/test_evaluate.py::test_exclude_always_wins",
        ),
        commands=("explain", "plan"),
        sections=("members", "configuration"),
    ),
    Control(
        framework=_ISO,
        reference="A.5.23",
        title="Information security for use of cloud services",
        claim=(
            "Accounts get their policies when they join, whichever way they join, and the time that it took is "
            "measured for each."
        ),
        tests=(
            "tests/e2e/test_main_job.py::test_the_rule_matches_joins_and_nothing_else",
            "tests/unit/test_enforce.py::test_only_joins_count_for_the_time_from_join_to_guardrail",
        ),
        commands=("coverage",),
        sections=("joins", "coverage"),
    ),
    Control(
        framework=_ISO,
        reference="A.5.28",
        title="Collection of evidence",
        claim=(
            "Whoever reads ENFORCED finds the evidence of it, wherever a process died. Evidence is compared with "
            "the records, and what is missing or differs is named."
        ),
        tests=(
            "tests/unit/test_crash.py::test_any_series_of_kills_is_repaired",
            "tests/unit/test_evidence_checks.py::test_tampered_evidence_is_reported",
        ),
        commands=("outcome", "evidence"),
        sections=("integrity",),
    ),
    Control(
        framework=_ISO,
        reference="A.5.33",
        title="Protection of records",
        claim=(
            "Records are written once, locked, encrypted and versioned. Neither the worker nor an operator can "
            "change or delete them. They hold no account ids, e-mail addresses or ARNs."
        ),
        tests=(
            "tests/infra/test_template.py::test_evidence_is_locked_versioned_private_and_never_deleted",
            "tests/infra/test_resource_policies.py::test_only_its_roles_can_write_each_kind_of_record_and_each_key_once",
            "tests/unit/test_enforce.py::test_results_and_evidence_have_no_account_id_email_address_or_arn",
        ),
        commands=("evidence",),
        sections=("integrity",),
    ),
    Control(
        framework=_ISO,
        reference="A.5.36",
        title="Compliance with policies, rules and standards",
        claim=(
            "Exceptions have an owner, a reason and a mandatory end, they only take away, and they end by themselves."
        ),
        tests=(
            "tests/unit/test_evaluate.py::test_an_exception_never_adds",
            "tests/unit/test_evaluate.py::test_an_exception_is_in_force_from_the_beginning_of_its_first_day_to_the_end_of_its_last_day_in_utc",
        ),
        commands=("coverage",),
        sections=("exceptions",),
    ),
    Control(
        framework=_ISO,
        reference="A.8.2",
        title="Privileged access rights",
        claim=("Operators read with one role and act with another, whose sessions name a person and last an hour."),
        tests=(
            "tests/infra/test_resource_policies.py::test_one_principal_may_read_and_another_one_may_act",
            "tests/infra/test_resource_policies.py::test_whoever_assumes_a_role_has_chosen_the_name_of_the_session",
        ),
        commands=("actions",),
        sections=("actions",),
    ),
    Control(
        framework=_ISO,
        reference="A.8.9",
        title="Configuration management",
        claim=(
            "The guardrails are compiled, pinned by the hashes of the policies, reviewed as a lock file, and "
            "named by their own hash in every record."
        ),
        tests=(
            "tests/unit/test_lock.py::test_what_changed_in_the_organization_makes_the_lock_file_stale",
            "tests/unit/test_evaluate.py::test_guardrails_that_were_stored_and_read_decide_the_same",
        ),
        commands=("lock",),
        sections=("configuration",),
    ),
    Control(
        framework=_ISO,
        reference="A.8.15",
        title="Logging",
        claim=(
            "Each attempt that decided or changed anything has evidence of its own, which is written before the "
            "outcome."
        ),
        tests=(
            "tests/unit/test_enforce.py::test_intent_comes_before_effect_and_evidence_before_outcome",
            "tests/unit/test_model.py::test_the_records_agree_with_whatever_happens",
        ),
        commands=("outcome",),
        sections=("integrity",),
    ),
    Control(
        framework=_ISO,
        reference="A.8.16",
        title="Monitoring activities",
        claim=(
            "Every account is compared with the guardrails on a schedule, and an alarm says when that does not happen."
        ),
        tests=(
            "tests/infra/test_template.py::test_the_age_of_the_last_sweep_pages_after_three_intervals_and_if_nothing_publishes_it",
            "tests/unit/test_sweep.py::test_an_account_without_any_event_and_one_that_lacks_a_policy_are_requested_once",
        ),
        commands=("sweep",),
        sections=("coverage", "rehearsals"),
    ),
    Control(
        framework=_ISO,
        reference="A.8.32",
        title="Change management",
        claim=(
            "A change of the guardrails is planned against the organization before it is deployed, and a plan "
            "that is not the approved one removes no more than the limit."
        ),
        tests=(
            "tests/infra/test_approving.py::test_the_digest_of_another_plan_is_refused_with_that_of_this_one",
            "tests/integration/test_recording.py::test_only_the_description_of_our_change_sets_names_a_plan_and_a_commit",
        ),
        commands=("plan",),
        sections=("configuration",),
    ),
)
