{{ config(materialized='incremental', unique_key='session_id', incremental_strategy='delete+insert') }}
select
    md5(conversation_id) as message_key,
    md5(session_id) as session_key,
    partition_date as date_key,
    project_id, conversation_id, session_id, role, turn_type, message_sequence, content_length,
    case when turn_type = 'response' then seconds_since_previous end as response_time_seconds,
    task_category, time_of_day, day_type, hour_of_day, day_of_week, has_code_block, has_url, is_question, effective_timestamp,
    partition_date, source_file
from {{ ref('int_messages_enriched') }}
{% if is_incremental() %}
where session_id in (select session_id from {{ source('raw', 'changed_sessions') }})
{% endif %}
