-- Which accounts joined in a period, what they had to carry, what they carried, and how long that took.
--
-- Parameters: the first and the last day (yyyy/MM/dd, in UTC), for example '2026/11/01' and '2026/11/30'.
-- One row for each account, also if it joined twice; `joined_at` is the first time. `required`, `carried`, `missing` and
-- `status` are those of the last decision in the period, whatever caused it: the join, a redrive, the sweep, an operator.
-- `carried_at` is when it carried everything for the first time. Accounts that do not carry everything come first.
WITH decisions AS (
    SELECT
        account.value AS account,
        event_name,
        status,
        from_iso8601_timestamp(event_time) AS event_at,
        from_iso8601_timestamp(recorded_at) AS decided_at,
        required,
        transform(
            filter(policies, p -> p.result IN ('ATTACHED', 'ALREADY_ATTACHED')), p -> p.policy_id
        ) AS carried
    FROM evidence
    WHERE day BETWEEN ? AND ?
        AND account IS NOT NULL
        AND status IN ('ENFORCED', 'FAILED', 'OBSERVED')
        -- These say what an attempt that crashed had done, or what was removed, and not all that the account carries.
        AND course <> 'interrupted'
        AND event_name <> 'RemovalRequest'
),

joined AS (
    SELECT
        account,
        min(event_at) AS joined_at
    FROM decisions
    WHERE event_name IN ('AcceptHandshake', 'AccountJoinedOrganization', 'CreateAccountResult')
    GROUP BY account
),

summary AS (
    SELECT
        joined.account,
        joined.joined_at,
        max_by(decisions.status, decisions.decided_at) AS status,
        max_by(decisions.required, decisions.decided_at) AS required,
        max_by(decisions.carried, decisions.decided_at) AS carried,
        min(CASE WHEN decisions.status = 'ENFORCED' THEN decisions.decided_at END) AS carried_at
    FROM joined
    INNER JOIN decisions
        ON decisions.account = joined.account AND decisions.decided_at >= joined.joined_at
    GROUP BY joined.account, joined.joined_at
)

SELECT
    account,
    joined_at,
    status,
    required,
    carried,
    filter(required, p -> NOT contains(carried, p)) AS missing,
    carried_at,
    date_diff('millisecond', joined_at, carried_at) / 1000.0 AS seconds
FROM summary
ORDER BY (status = 'ENFORCED'), joined_at, account
