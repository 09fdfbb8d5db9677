with sessions as (
    select date_key, count(*) as session_count, count(distinct project_id) as active_projects,
        sum(duration_minutes) as total_session_minutes, avg(duration_minutes) as avg_session_minutes,
        sum(active_minutes) as active_minutes
    from {{ ref('dim_sessions') }} group by date_key
),

messages as (
    select date_key, count(*) as message_count,
        count(*) filter (where role = 'user') as user_messages,
        count(*) filter (where role = 'assistant') as assistant_messages,
        avg(content_length) as avg_content_length, sum(content_length) as total_content_length,
        count(*) filter (where has_code_block) as messages_with_code,
        count(*) filter (where is_question) as question_count
    from {{ ref('fct_messages') }} group by date_key
),

tools as (
    select date_key, count(*) filter (where is_invocation) as tool_call_count, count(distinct tool_name) as unique_tools_used,
        count(*) filter (where is_file_operation and is_invocation) as file_operations,
        count(*) filter (where is_search_operation and is_invocation) as search_operations,
        count(*) filter (where is_shell_command and is_invocation) as shell_commands,
        avg(estimated_execution_seconds) filter (where is_invocation) as avg_tool_execution_seconds,
        count(*) filter (where is_error) as tool_errors
    from {{ ref('fct_tool_calls') }} group by date_key
),

operations as (
    select date_key, count(*) as file_operation_count,
        count(*) filter (where is_read) as file_reads,
        count(*) filter (where is_write) as file_writes,
        count(*) filter (where is_edit) as file_edits,
        count(distinct file_path) as unique_files_touched,
        sum(lines_added) as lines_added, sum(lines_removed) as lines_removed
    from {{ ref('fct_file_operations') }} group by date_key
),

costs as (
    select date_key, sum(total_tokens) as tokens, sum(cost_usd) as cost_usd
    from {{ ref('fct_responses') }} group by date_key
)

select
    d.date_key, d.year, d.month, d.week_of_year, d.day_of_week, d.day_name, d.is_weekend, d.is_weekday, d.year_month,
    coalesce(s.session_count, 0) as session_count,
    coalesce(s.active_projects, 0) as active_projects,
    coalesce(s.total_session_minutes, 0) as total_session_minutes,
    cast(s.avg_session_minutes as decimal(18, 2)) as avg_session_minutes,
    coalesce(m.message_count, 0) as message_count,
    coalesce(m.user_messages, 0) as user_messages,
    coalesce(m.assistant_messages, 0) as assistant_messages,
    cast(m.avg_content_length as decimal(18, 0)) as avg_content_length,
    coalesce(m.total_content_length, 0) as total_content_length,
    coalesce(m.messages_with_code, 0) as messages_with_code,
    coalesce(m.question_count, 0) as question_count,
    coalesce(t.tool_call_count, 0) as tool_call_count,
    coalesce(t.unique_tools_used, 0) as unique_tools_used,
    coalesce(t.file_operations, 0) as file_operations,
    coalesce(t.search_operations, 0) as search_operations,
    coalesce(t.shell_commands, 0) as shell_commands,
    cast(t.avg_tool_execution_seconds as decimal(18, 3)) as avg_tool_execution_seconds,
    coalesce(o.file_operation_count, 0) as file_operation_count,
    coalesce(o.file_reads, 0) as file_reads,
    coalesce(o.file_writes, 0) as file_writes,
    coalesce(o.file_edits, 0) as file_edits,
    coalesce(o.unique_files_touched, 0) as unique_files_touched,
    m.message_count / nullif(s.session_count, 0) as messages_per_session,
    t.tool_call_count / nullif(s.session_count, 0) as tools_per_session,
    m.message_count is not null or t.tool_call_count is not null as has_activity,
    now() as computed_at,
    coalesce(s.active_minutes, 0) as active_minutes,
    coalesce(t.tool_errors, 0) as tool_errors,
    coalesce(o.lines_added, 0) as lines_added,
    coalesce(o.lines_removed, 0) as lines_removed,
    coalesce(c.tokens, 0) as tokens,
    coalesce(c.cost_usd, 0) as cost_usd
from {{ ref('dim_date') }} as d
left join sessions as s using (date_key)
left join messages as m using (date_key)
left join tools as t using (date_key)
left join operations as o using (date_key)
left join costs as c using (date_key)
