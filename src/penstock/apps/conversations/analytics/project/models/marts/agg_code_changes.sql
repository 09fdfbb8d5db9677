with extensions as (
    select file_extension
    from {{ ref('fct_file_operations') }}
    where file_extension is not null
    group by file_extension
    order by count(*) desc, file_extension
    limit 20
),

operations as (
    select *, unnest([
        {'level': 'overall', 'key': 'all'},
        {'level': 'by_file_type', 'key': file_type_category},
        {'level': 'by_operation', 'key': operation_type},
        {'level': 'by_extension', 'key': if(file_extension in (select file_extension from extensions), file_extension, null)}
    ]) as aggregation
    from {{ ref('fct_file_operations') }}
)

select
    aggregation.level as aggregation_level,
    aggregation.key as aggregation_key,
    count(*) as total_operations,
    count(*) filter (where is_read) as read_operations,
    count(*) filter (where is_write) as write_operations,
    count(*) filter (where is_edit) as edit_operations,
    count(*) filter (where is_read) * 100.0 / count(*) as read_pct,
    count(*) filter (where is_write) * 100.0 / count(*) as write_pct,
    count(*) filter (where is_edit) * 100.0 / count(*) as edit_pct,
    count(distinct file_path) as unique_files,
    count(distinct file_extension) as unique_extensions,
    count(distinct session_id) as sessions_with_file_ops,
    count(distinct project_id) as projects_with_file_ops,
    cast(avg(operation_content_length) as decimal(18, 0)) as avg_content_length,
    sum(operation_content_length) as total_content_length,
    now() as computed_at,
    sum(lines_added) as lines_added,
    sum(lines_removed) as lines_removed
from operations
where aggregation.key is not null
group by all
