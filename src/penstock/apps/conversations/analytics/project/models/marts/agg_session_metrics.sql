with sessions as (
    select *, unnest([
        {'metric_type': 'overall', 'metric_key': 'all'},
        {'metric_type': 'by_duration', 'metric_key': session_duration_category},
        {'metric_type': 'by_activity', 'metric_key': activity_level},
        {'metric_type': 'by_time_of_day', 'metric_key': session_time_of_day}
    ]) as metric
    from {{ ref('dim_sessions') }}
)

select
    metric.metric_type as metric_type,
    metric.metric_key as metric_key,
    count(*) as total_sessions,
    count(distinct project_id) as unique_projects,
    avg(duration_minutes) as avg_duration_minutes,
    median(duration_minutes) as median_duration_minutes,
    sum(duration_hours) as total_duration_hours,
    avg(message_count) as avg_messages_per_session,
    sum(message_count) as total_messages,
    avg(tool_call_count) as avg_tools_per_session,
    sum(tool_call_count) as total_tool_calls,
    avg(avg_response_time_seconds) as overall_avg_response_time_seconds,
    cast(avg(message_count) * 0.4 + avg(tool_call_count) * 0.6 as double) as productivity_score,
    now() as computed_at,
    avg(active_minutes) as avg_active_minutes
from sessions
group by all
