with tasks as (
    select
        session_id,
        mode(task_category order by task_category) as primary_task_category,
        count(distinct task_category) as task_category_count
    from {{ ref('fct_messages') }}
    where role = 'user'
    group by session_id
)

select
    md5(s.session_id) as session_key,
    s.session_id, s.project_id, s.start_date as date_key, s.session_start, s.session_end, s.start_date, s.end_date,
    s.duration_seconds, s.duration_minutes, s.duration_hours, s.session_duration_category, s.message_count,
    s.user_message_count, s.assistant_message_count, s.total_content_length, s.avg_content_length,
    s.avg_response_time_seconds, s.tool_call_count, s.unique_tools_used, s.tool_invocations, s.tool_results, s.primary_tool,
    s.tools_per_message, s.activity_level,
    coalesce(t.primary_task_category, 'other') as primary_task_category,
    coalesce(t.task_category_count, 0) as task_category_count,
    hour(timezone('{{ var("timezone") }}', s.session_start)) as start_hour,
    dayofweek(timezone('{{ var("timezone") }}', s.session_start)) as start_day_of_week,
    case
        when hour(timezone('{{ var("timezone") }}', s.session_start)) between 6 and 11 then 'morning'
        when hour(timezone('{{ var("timezone") }}', s.session_start)) between 12 and 17 then 'afternoon'
        when hour(timezone('{{ var("timezone") }}', s.session_start)) between 18 and 21 then 'evening'
        else 'night'
    end as session_time_of_day,
    case when dayofweek(s.start_date) in (0, 6) then 'weekend' else 'weekday' end as session_day_type,
    s.message_count / nullif(s.duration_minutes, 0) as messages_per_minute,
    s.tool_call_count / nullif(s.duration_minutes, 0) as tools_per_minute,
    s.active_minutes,
    s.tool_errors
from {{ ref('int_sessions_computed') }} as s
left join tasks as t using (session_id)
