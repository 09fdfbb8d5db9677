with tools as (
    select *, coalesce(tool_id, tool_use_id, conversation_id) as call_id
    from {{ ref('stg_conversations') }}
    where is_tool_related
),

named as (
    select * exclude (tool_name), coalesce(tool_name, max(tool_name) over (partition by session_id, call_id), 'unknown') as tool_name
    from tools
)

select
    conversation_id, session_id, project_id, effective_timestamp, partition_date, entry_type, tool_name, tool_id, tool_use_id,
    entry_type = 'tool_use' as is_invocation,
    entry_type = 'tool_result' as is_result,
    message_content as tool_content,
    message_raw as raw_parameters,
    content_length,
    row_number() over (partition by session_id order by effective_timestamp, line_id, part) as tool_sequence,
    source_file,
    lead(effective_timestamp) over (partition by session_id, tool_name order by effective_timestamp, line_id, part) as next_same_tool_timestamp,
    lead(entry_type) over (partition by session_id order by effective_timestamp, line_id, part) as next_entry_type,
    call_id,
    coalesce(try_cast(json_extract_string(if(json_valid(message_raw), message_raw, null), '$.is_error') as boolean), false) as is_error
from named
