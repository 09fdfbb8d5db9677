with entries as (
    select
        session_id,
        arg_min(project_id, (effective_timestamp, line_id)) as project_id,
        min(effective_timestamp) as session_start,
        max(effective_timestamp) as session_end,
        count(distinct line_id) as total_entries
    from {{ ref('stg_conversations') }}
    group by session_id
),

gaps as (
    select
        session_id,
        date_diff('millisecond', lag(effective_timestamp) over (partition by session_id order by effective_timestamp, line_id, part), effective_timestamp) / 1000.0 as gap
    from {{ ref('stg_conversations') }}
),

active as (
    select session_id, coalesce(sum(gap) filter (where gap <= 300), 0) as active_seconds
    from gaps
    group by session_id
),

messages as (
    select
        session_id,
        count(*) as message_count,
        count(*) filter (where role = 'user') as user_message_count,
        count(*) filter (where role = 'assistant') as assistant_message_count,
        sum(content_length) as total_content_length,
        avg(content_length) as avg_content_length,
        avg(seconds_since_previous) filter (where turn_type = 'response') as avg_response_time_seconds
    from {{ ref('stg_messages') }}
    group by session_id
),

tools as (
    select
        session_id,
        count(*) filter (where is_invocation) as tool_call_count,
        count(distinct tool_name) as unique_tools_used,
        count(*) filter (where is_invocation) as tool_invocations,
        count(*) filter (where is_result) as tool_results,
        count(*) filter (where is_error) as tool_errors,
        mode(tool_name order by tool_name) filter (where is_invocation) as primary_tool
    from {{ ref('stg_tool_calls') }}
    group by session_id
),

together as (
    select
        e.*,
        date_diff('millisecond', e.session_start, e.session_end) / 1000.0 as duration_seconds,
        coalesce(m.message_count, 0) as message_count,
        coalesce(m.user_message_count, 0) as user_message_count,
        coalesce(m.assistant_message_count, 0) as assistant_message_count,
        coalesce(m.total_content_length, 0) as total_content_length,
        coalesce(m.avg_content_length, 0) as avg_content_length,
        m.avg_response_time_seconds,
        coalesce(t.tool_call_count, 0) as tool_call_count,
        coalesce(t.unique_tools_used, 0) as unique_tools_used,
        coalesce(t.tool_invocations, 0) as tool_invocations,
        coalesce(t.tool_results, 0) as tool_results,
        coalesce(t.tool_errors, 0) as tool_errors,
        t.primary_tool,
        a.active_seconds
    from entries as e
    left join messages as m using (session_id)
    left join tools as t using (session_id)
    left join active as a using (session_id)
)

select
    session_id, project_id, session_start, session_end,
    cast(timezone('{{ var("timezone") }}', session_start) as date) as start_date,
    cast(timezone('{{ var("timezone") }}', session_end) as date) as end_date,
    total_entries,
    cast(duration_seconds as double) as duration_seconds,
    cast(duration_seconds / 60 as double) as duration_minutes,
    cast(duration_seconds / 3600 as double) as duration_hours,
    message_count, user_message_count, assistant_message_count, total_content_length,
    cast(avg_content_length as double) as avg_content_length,
    cast(avg_response_time_seconds as double) as avg_response_time_seconds,
    tool_call_count, unique_tools_used, tool_invocations, tool_results, primary_tool,
    cast(tool_call_count / nullif(message_count, 0) as float) as tools_per_message,
    case
        when duration_seconds < 60 then 'quick'
        when duration_seconds < 600 then 'short'
        when duration_seconds < 3600 then 'medium'
        else 'long'
    end as session_duration_category,
    case
        when message_count <= 5 then 'minimal'
        when message_count <= 20 then 'light'
        when message_count <= 50 then 'moderate'
        else 'heavy'
    end as activity_level,
    cast(active_seconds / 60 as double) as active_minutes,
    tool_errors
from together
