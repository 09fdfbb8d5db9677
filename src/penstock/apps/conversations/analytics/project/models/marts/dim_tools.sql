with used as (
    select
        tool_name,
        any_value(tool_category) as tool_category,
        any_value(tool_description) as tool_description,
        count(*) filter (where is_invocation) as total_calls,
        count(distinct session_id) as sessions_used,
        count(distinct project_id) as projects_used,
        count(distinct partition_date) as days_used,
        min(effective_timestamp) as first_used,
        max(effective_timestamp) as last_used,
        count(*) filter (where is_invocation) as invocation_count,
        count(*) filter (where is_result) as result_count,
        avg(estimated_execution_seconds) filter (where is_invocation) as avg_execution_seconds,
        mode(file_type_category order by file_type_category) filter (where file_path is not null) as primary_file_type,
        count(distinct file_type_category) filter (where file_path is not null) as file_types_count,
        1 - count(*) filter (where is_error) / nullif(count(*) filter (where is_result), 0) as success_rate
    from {{ ref('int_tool_usage') }}
    group by tool_name
),

tools as (
    select
        coalesce(u.tool_name, k.tool_name) as tool_name,
        coalesce(u.tool_category, k.tool_category) as tool_category,
        coalesce(u.tool_description, k.tool_description) as tool_description,
        u.* exclude (tool_name, tool_category, tool_description)
    from used as u
    full join {{ ref('tool_categories') }} as k on u.tool_name = k.tool_name
)

select
    md5(tool_name) as tool_key,
    tool_name, tool_category, tool_description,
    tool_category = 'file_operations' as is_file_tool,
    tool_category = 'shell' as is_shell_tool,
    tool_category = 'search' as is_search_tool,
    tool_category = 'agent' as is_agent_tool,
    tool_category = 'planning' as is_planning_tool,
    tool_category = 'network' as is_network_tool,
    tool_category = 'interaction' as is_interaction_tool,
    coalesce(total_calls, 0) as total_calls,
    coalesce(sessions_used, 0) as sessions_used,
    coalesce(projects_used, 0) as projects_used,
    coalesce(days_used, 0) as days_used,
    first_used, last_used,
    coalesce(invocation_count, 0) as invocation_count,
    coalesce(result_count, 0) as result_count,
    avg_execution_seconds, primary_file_type,
    coalesce(file_types_count, 0) as file_types_count,
    cast(success_rate as float) as success_rate,
    rank() over (order by coalesce(total_calls, 0) desc) as popularity_rank,
    case
        when coalesce(total_calls, 0) = 0 then 'unused'
        when total_calls <= 10 then 'rare'
        when total_calls <= 100 then 'occasional'
        when total_calls <= 1000 then 'frequent'
        else 'heavy'
    end as usage_tier
from tools
