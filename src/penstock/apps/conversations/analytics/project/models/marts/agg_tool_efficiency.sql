with hours as (
    select tool_name, hour_of_day, count(*) as calls,
        row_number() over (partition by tool_name order by count(*) desc, hour_of_day) as place
    from {{ ref('fct_tool_calls') }}
    where is_invocation
    group by tool_name, hour_of_day
),

seconds as (
    select tool_name, median(estimated_execution_seconds) as median_seconds, max(estimated_execution_seconds) as max_seconds
    from {{ ref('fct_tool_calls') }}
    where is_invocation
    group by tool_name
),

repeated as (
    select session_id, tool_name, is_error,
        lag(is_error) over (partition by session_id, tool_name order by tool_sequence) as failed_before
    from {{ ref('fct_tool_calls') }}
    where is_result
),

retries as (
    select tool_name, count(*) filter (where failed_before) / nullif(count(*), 0) as retry_rate
    from repeated
    group by tool_name
)

select
    t.tool_name, t.tool_category, t.tool_description, t.total_calls, t.sessions_used, t.projects_used,
    t.invocation_count as invocations,
    t.result_count as results,
    cast(t.success_rate * 100 as double) as success_rate_pct,
    cast(t.avg_execution_seconds as decimal(18, 3)) as avg_execution_seconds,
    cast(s.median_seconds as decimal(18, 3)) as median_execution_seconds,
    cast(s.max_seconds as decimal(18, 3)) as max_execution_seconds,
    h.hour_of_day as peak_hour,
    h.calls as peak_hour_calls,
    t.popularity_rank, t.usage_tier,
    cast(sum(t.total_calls) over (partition by t.tool_category) as bigint) as category_total_calls,
    cast(t.total_calls * 100.0 / nullif(sum(t.total_calls) over (partition by t.tool_category), 0) as double) as pct_of_category,
    now() as computed_at,
    cast(r.retry_rate as double) as retry_rate
from {{ ref('dim_tools') }} as t
left join hours as h on t.tool_name = h.tool_name and h.place = 1
left join seconds as s on t.tool_name = s.tool_name
left join retries as r on t.tool_name = r.tool_name
where t.total_calls > 0
