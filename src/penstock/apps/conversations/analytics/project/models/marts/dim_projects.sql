with days as (
    select project_id, count(distinct partition_date) as active_days
    from {{ ref('stg_conversations') }}
    group by project_id
),

projects as (
    select
        project_id,
        min(session_start) as first_seen,
        max(session_end) as last_active,
        min(start_date) as first_seen_date,
        max(end_date) as last_active_date,
        sum(total_entries) as total_entries,
        count(*) as session_count,
        sum(message_count) as total_messages,
        sum(tool_call_count) as total_tool_calls,
        avg(duration_minutes) as avg_session_duration_minutes,
        avg(message_count) as avg_messages_per_session,
        avg(tool_call_count) as avg_tools_per_session
    from {{ ref('int_sessions_computed') }}
    group by project_id
)

select
    md5(p.project_id) as project_key,
    p.project_id, p.first_seen, p.last_active, p.first_seen_date, p.last_active_date,
    cast(p.total_entries as bigint) as total_entries, p.session_count, d.active_days, p.total_messages, p.total_tool_calls,
    p.avg_session_duration_minutes, p.avg_messages_per_session, p.avg_tools_per_session,
    date_diff('day', p.last_active_date, current_date) as days_since_active,
    date_diff('day', p.first_seen_date, current_date) as project_age_days,
    case
        when date_diff('day', p.last_active_date, current_date) <= 0 then 'active_today'
        when date_diff('day', p.last_active_date, current_date) <= 7 then 'active_this_week'
        when date_diff('day', p.last_active_date, current_date) <= 30 then 'active_this_month'
        else 'inactive'
    end as activity_status,
    case
        when p.session_count = 1 then 'single_session'
        when p.session_count <= 5 then 'small'
        when p.session_count <= 20 then 'medium'
        else 'large'
    end as project_size
from projects as p
left join days as d using (project_id)
