{{ config(materialized='incremental', unique_key='session_id', incremental_strategy='delete+insert') }}
select
    md5(conversation_id) as tool_call_key,
    md5(session_id) as session_key,
    md5(tool_name) as tool_key,
    partition_date as date_key,
    project_id, conversation_id, session_id, tool_name, entry_type, is_invocation, is_result, tool_sequence, tool_category,
    is_file_operation, is_search_operation, is_shell_command, file_path, file_extension, file_type_category,
    content_length as tool_content_length,
    estimated_execution_seconds, hour_of_day, day_of_week, effective_timestamp, partition_date, source_file, is_error,
    call_id
from {{ ref('int_tool_usage') }}
{% if is_incremental() %}
where session_id in (select session_id from {{ source('raw', 'changed_sessions') }})
{% endif %}
