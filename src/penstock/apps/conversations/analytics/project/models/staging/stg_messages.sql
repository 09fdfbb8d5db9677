with said as (
    select *, message_role as role
    from {{ ref('stg_conversations') }}
    where is_message and message_role in ('user', 'assistant') and message_content is not null
),

ordered as (
    select
        *,
        row_number() over in_session as message_sequence,
        lag(role) over in_session as previous_role,
        date_diff('millisecond', lag(effective_timestamp) over in_session, effective_timestamp) / 1000.0 as seconds_since_previous
    from said
    window in_session as (partition by session_id order by effective_timestamp, line_id, part)
)

select
    conversation_id, session_id, project_id, effective_timestamp, partition_date, entry_type, role, message_content,
    content_length, message_sequence, previous_role, cast(seconds_since_previous as double) as seconds_since_previous,
    source_file,
    case
        when message_sequence = 1 then 'conversation_start'
        when role = 'user' and previous_role = 'assistant' then 'follow_up'
        when role = 'assistant' and previous_role = 'user' then 'response'
        else 'continuation'
    end as turn_type
from ordered
