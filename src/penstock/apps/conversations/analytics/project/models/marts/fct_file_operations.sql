{{ config(materialized='incremental', unique_key='session_id', incremental_strategy='delete+insert') }}
select
    md5(f.conversation_id) as file_operation_key,
    f.session_key, f.tool_key, f.date_key, f.project_id, f.conversation_id, f.session_id, f.tool_name,
    case f.tool_name when 'Read' then 'read' when 'Write' then 'write' else 'edit' end as operation_type,
    f.file_path, f.file_extension, f.file_type_category,
    f.tool_name = 'Read' as is_read,
    f.tool_name = 'Write' as is_write,
    f.tool_name not in ('Read', 'Write') as is_edit,
    f.tool_content_length as operation_content_length,
    f.estimated_execution_seconds, f.hour_of_day, f.day_of_week, f.effective_timestamp, f.partition_date, f.source_file,
    c.lines_added, c.lines_removed
from {{ ref('fct_tool_calls') }} as f
left join {{ source('raw', 'calls') }} as c on f.call_id = c.call_id
where f.is_invocation and f.tool_name in ('Read', 'Write', 'Edit', 'NotebookEdit', 'MultiEdit', 'apply_patch', 'replace', 'write_file')
{% if is_incremental() %}
    and f.session_id in (select session_id from {{ source('raw', 'changed_sessions') }})
{% endif %}
