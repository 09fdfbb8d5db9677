select
    r.response_key,
    md5(coalesce(r.session_id, 'unknown')) as session_key,
    cast(timezone('{{ var("timezone") }}', r.responded_at) as date) as date_key,
    r.*  exclude (response_key),
    r.input_tokens + r.output_tokens + r.cache_write_tokens + r.cache_read_tokens as total_tokens
from {{ source('raw', 'responses') }} as r
