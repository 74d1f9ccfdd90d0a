-- Which policies came off or were changed in a period, who called it, and when they were put back.
--
-- Parameters: the first and the last day (yyyy/MM/dd, in UTC).
-- One row for each call of somebody else (`cause` is its name, `who` the pseudonym of the caller's ARN) and for each policy that
-- Joinguard removed itself (`cause` is Joinguard). `put_back_at` is empty if the policy was not attached again in the period.
-- A call that concerns the whole organization, such as DisablePolicyType, has no account.
WITH records AS (
    SELECT
        event_id,
        event_name,
        account.value AS account,
        from_iso8601_timestamp(event_time) AS event_at,
        from_iso8601_timestamp(recorded_at) AS recorded_at,
        called.principal.value AS who,
        called.policy_id AS called_policy,
        called.policy_type AS called_type,
        called IS NOT NULL AS is_call,
        transform(filter(policies, p -> p.result = 'ATTACHED'), p -> p.policy_id) AS attached,
        transform(filter(policies, p -> p.result = 'REMOVED'), p -> p.policy_id) AS removed
    FROM evidence
    WHERE day BETWEEN ? AND ?
),

off AS (
    SELECT
        event_at AS off_at,
        account,
        coalesce(called_policy, called_type) AS policy,
        event_name AS cause,
        who,
        event_id
    FROM records
    WHERE is_call
    UNION ALL
    SELECT
        records.recorded_at AS off_at,
        records.account,
        own.policy_id AS policy,
        'Joinguard' AS cause,
        NULL AS who,
        records.event_id
    FROM records
    CROSS JOIN UNNEST(records.removed) AS own (policy_id)
)

SELECT
    off.off_at,
    off.account,
    off.policy,
    off.cause,
    off.who,
    min(back.recorded_at) AS put_back_at,
    date_diff('millisecond', off.off_at, min(back.recorded_at)) / 1000.0 AS seconds_without,
    off.event_id
FROM off
LEFT JOIN records AS back
    ON back.account = off.account
        -- CloudTrail's times have whole seconds: within that second, only what followed from the call itself is after it.
        AND (back.event_id = off.event_id OR back.recorded_at >= off.off_at + INTERVAL '1' SECOND)
        AND contains(back.attached, off.policy)
GROUP BY off.off_at, off.account, off.policy, off.cause, off.who, off.event_id
ORDER BY off.off_at, off.account, off.policy
