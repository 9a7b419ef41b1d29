"""Filters that Kowalski's and BOOM's users hold, MongoDB aggregation pipelines, as expressions.

What `$match` stages ask is translated; fields that `$project`, `$addFields` and `$set` compute are
put in where a `$match` uses them. What a score table has no answer to is refused by name, once a
`$match` depends on it: other stages, arrays of earlier photometry, cross-matches, `properties`.

| in the pipeline | in the score table |
| --- | --- |
| `candidate.NAME`, `objectId`, `candid` | the column of that name |
| `classifications.acai_h` | `acai_h` |
| `coordinates.l`, `coordinates.b` | `galactic_l`, `galactic_b` |
| `candidate.isdiffpos` where true or false is meant, as BOOM stores it | 't' or '1', 'f' or '0' |
| null | null; `terms` says what follows |
| `{"$exists": true}` | IS NOT NULL: a table does not tell null from missing |
| a division by zero, at which MongoDB stops | null, which lets no alert pass |

Numbers are compared as the table stores them, most of them in float32.

Source: https://www.mongodb.com/docs/manual/reference/operator/
"""

from acai_jax.filters.mongo.pipeline import read_pipeline, translate_pipeline

__all__ = ["read_pipeline", "translate_pipeline"]
