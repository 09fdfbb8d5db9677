select
    date_key, project_id, coalesce(model, 'unknown') as model,
    count(*) as responses,
    sum(input_tokens) as input_tokens,
    sum(output_tokens) as output_tokens,
    sum(cache_write_tokens) as cache_write_tokens,
    sum(cache_read_tokens) as cache_read_tokens,
    sum(cost_usd) as cost_usd,
    sum(cache_saved_usd) as cache_saved_usd,
    count(*) filter (where cost_usd is null) as responses_without_price
from {{ ref('fct_responses') }}
group by all
