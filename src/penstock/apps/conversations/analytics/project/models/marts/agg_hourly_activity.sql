with slots as (
    select h.h as hour_of_day, d.d as day_of_week
    from range(24) as h(h), range(7) as d(d)
),

messages as (
    select hour_of_day, day_of_week, count(*) as message_count, count(distinct session_id) as unique_sessions,
        count(distinct project_id) as unique_projects, avg(content_length) as avg_content_length,
        count(*) filter (where role = 'user') as user_messages,
        count(*) filter (where role = 'assistant') as assistant_messages,
        count(*) filter (where has_code_block) as messages_with_code
    from {{ ref('fct_messages') }} group by all
),

tools as (
    select hour_of_day, day_of_week, count(*) filter (where is_invocation) as tool_call_count,
        count(distinct tool_name) as unique_tools,
        count(*) filter (where is_file_operation and is_invocation) as file_operations,
        count(*) filter (where is_search_operation and is_invocation) as search_operations,
        count(*) filter (where is_shell_command and is_invocation) as shell_commands
    from {{ ref('fct_tool_calls') }} group by all
),

sessions as (
    select start_hour as hour_of_day, start_day_of_week as day_of_week, count(*) as session_starts,
        avg(duration_minutes) as avg_session_duration
    from {{ ref('dim_sessions') }} group by all
)

select
    hour_of_day, day_of_week,
    ['Sunday', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday'][day_of_week + 1] as day_name,
    case when day_of_week in (0, 6) then 'weekend' else 'weekday' end as day_type,
    case when hour_of_day between 6 and 11 then 'morning' when hour_of_day between 12 and 17 then 'afternoon'
        when hour_of_day between 18 and 21 then 'evening' else 'night' end as time_of_day,
    lpad(cast(hour_of_day as varchar), 2, '0') || ':00' as hour_label,
    coalesce(m.message_count, 0) as message_count,
    coalesce(m.unique_sessions, 0) as unique_sessions,
    coalesce(m.unique_projects, 0) as unique_projects,
    cast(m.avg_content_length as decimal(18, 0)) as avg_content_length,
    coalesce(m.user_messages, 0) as user_messages,
    coalesce(m.assistant_messages, 0) as assistant_messages,
    coalesce(m.messages_with_code, 0) as messages_with_code,
    coalesce(t.tool_call_count, 0) as tool_call_count,
    coalesce(t.unique_tools, 0) as unique_tools,
    coalesce(t.file_operations, 0) as file_operations,
    coalesce(t.search_operations, 0) as search_operations,
    coalesce(t.shell_commands, 0) as shell_commands,
    coalesce(s.session_starts, 0) as session_starts,
    cast(s.avg_session_duration as decimal(18, 2)) as avg_session_duration,
    coalesce(m.message_count, 0) + coalesce(t.tool_call_count, 0) as total_activity,
    now() as computed_at
from slots
left join messages as m using (hour_of_day, day_of_week)
left join tools as t using (hour_of_day, day_of_week)
left join sessions as s using (hour_of_day, day_of_week)
