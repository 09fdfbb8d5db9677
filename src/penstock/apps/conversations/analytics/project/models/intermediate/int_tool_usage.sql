with calls as (
    select
        c.*,
        coalesce(k.tool_category, case when starts_with(c.tool_name, 'mcp__') then 'mcp' else 'other' end) as tool_category,
        coalesce(k.tool_description, c.tool_name) as tool_description,
        timezone('{{ var("timezone") }}', c.effective_timestamp) as local_time,
        if(json_valid(c.raw_parameters), c.raw_parameters, null) as parameters
    from {{ ref('stg_tool_calls') }} as c
    left join {{ ref('tool_categories') }} as k on c.tool_name = k.tool_name
),

paired as (
    select
        *,
        max(coalesce(
            json_extract_string(parameters, '$.input.file_path'), json_extract_string(parameters, '$.input.notebook_path'),
            json_extract_string(parameters, '$.input.path')
        )) over (partition by session_id, call_id) as file_path,
        date_diff(
            'millisecond',
            min(effective_timestamp) filter (where is_invocation) over (partition by session_id, call_id),
            min(effective_timestamp) filter (where is_result) over (partition by session_id, call_id)
        ) / 1000.0 as seconds
    from calls
),

extended as (
    select *, nullif(lower(regexp_extract(file_path, '[^/\\]\.([A-Za-z0-9]{1,12})$', 1)), '') as file_extension
    from paired
)

select
    conversation_id, session_id, project_id, effective_timestamp, partition_date, entry_type, tool_name, tool_id, tool_use_id,
    is_invocation, is_result, tool_content, raw_parameters, content_length, tool_sequence, next_same_tool_timestamp,
    next_entry_type, tool_category, tool_description, file_path, file_extension,
    hour(local_time) as hour_of_day,
    dayofweek(local_time) as day_of_week,
    cast(seconds as double) as estimated_execution_seconds,
    tool_category = 'file_operations' as is_file_operation,
    tool_category = 'search' as is_search_operation,
    tool_category = 'shell' as is_shell_command,
    source_file,
    case
        when regexp_matches(file_path, '(^|/)(Dockerfile|docker-compose[^/]*)$') then 'docker'
        when file_path is null or file_extension is null then 'other'
        when file_extension in ('py', 'pyi', 'ipynb') then 'python'
        when file_extension in ('js', 'jsx', 'mjs', 'cjs') then 'javascript'
        when file_extension in ('ts', 'tsx') then 'typescript'
        when file_extension in ('html', 'css', 'scss', 'vue', 'svelte') then 'web'
        when file_extension in ('sql') then 'sql'
        when file_extension in ('md', 'rst', 'txt') then 'documentation'
        when file_extension in ('json', 'yaml', 'yml', 'toml', 'ini', 'env', 'cfg') then 'config'
        when file_extension in ('sh', 'bash', 'zsh', 'ps1') then 'shell'
        when file_extension in ('go', 'rs', 'c', 'h', 'cc', 'cpp', 'hpp') then 'systems'
        when file_extension in ('java', 'kt', 'scala', 'cs') then 'jvm'
        when file_extension in ('csv', 'parquet', 'xml') then 'data'
        else 'other'
    end as file_type_category,
    is_error,
    call_id
from extended
