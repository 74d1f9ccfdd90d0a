-- What operators did by hand in a period: who, why, with which messages, and what became of the accounts.
--
-- Parameters: the first and the last day of the actions (yyyy/MM/dd, in UTC), and the last day again.
-- One row for each message of an action, or one row if it had none. `who` is the pseudonym of the name of a session or user
-- (`joinguard actions --by NAME` compares a name with it), `principal` that of the whole ARN. An action without `ended` was
-- cut off. `account`, `event` and `status` are those of the last evidence of the message's event.
WITH records AS (
    SELECT
        act_id,
        action,
        phase,
        actor_name.value AS who,
        actor.value AS principal,
        reason,
        letters,
        ended,
        from_iso8601_timestamp(recorded_at) AS recorded_at
    FROM acts
    WHERE day BETWEEN ? AND ?
),

intended AS (
    SELECT
        records.act_id,
        records.action,
        records.who,
        records.principal,
        records.reason,
        records.recorded_at,
        records.letters,
        message.event_id,
        message.number
    FROM records
    LEFT JOIN UNNEST(transform(records.letters, m -> m.event_id)) WITH ORDINALITY AS message (event_id, number) ON TRUE
    WHERE records.phase = 'intended'
),

events AS (
    SELECT
        event_id,
        max_by(account.value, from_iso8601_timestamp(recorded_at)) AS account,
        max_by(event_name, from_iso8601_timestamp(recorded_at)) AS event_name,
        max_by(status, from_iso8601_timestamp(recorded_at)) AS status
    FROM evidence
    WHERE day <= ?
    GROUP BY event_id
)

SELECT
    intended.recorded_at AS begun_at,
    intended.action,
    intended.who,
    intended.principal,
    intended.reason,
    done.ended,
    done.recorded_at AS ended_at,
    intended.event_id,
    intended.letters[intended.number].error_code AS error_code,
    done.letters[intended.number].result AS result,
    events.account,
    events.event_name AS event,
    events.status,
    intended.act_id
FROM intended
LEFT JOIN records AS done ON done.act_id = intended.act_id AND done.phase = 'done'
LEFT JOIN events ON events.event_id = intended.event_id
ORDER BY intended.recorded_at, intended.act_id, intended.number
