"""The words of agent SQL: what a statement may name, and hints for the rest.

These are allow-lists: whatever isn't here is refused, so a function that a later
Postgres adds is refused until somebody has looked at it. A function belongs here only
if its result depends on nothing but its arguments and the clock: none that runs SQL
given as text (``ts_stat``, ``query_to_xml``), that looks a name up in the catalog
(``to_regclass``, ``pg_*``, ``has_*``), that touches the session (``set_config``,
``lastval``) or anything outside the database.
"""

from __future__ import annotations

_AGGREGATES = """
any_value array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop
covar_samp every json_agg json_object_agg jsonb_agg jsonb_object_agg max min mode
percentile_cont percentile_disc range_agg range_intersect_agg regr_avgx regr_avgy
regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy stddev
stddev_pop stddev_samp string_agg sum var_pop var_samp variance
cume_dist dense_rank first_value lag last_value lead nth_value ntile percent_rank rank
row_number
"""

_TEXT = """
ascii bit_count bit_length btrim casefold char_length character_length chr concat
concat_ws convert_from convert_to crc32 crc32c decode encode format initcap
is_normalized left length like like_escape lower lpad ltrim md5 normalize notlike
octet_length overlay position quote_ident quote_literal quote_nullable regexp_count
regexp_instr regexp_like regexp_match regexp_matches regexp_replace
regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse right
rpad rtrim sha224 sha256 sha384 sha512 similar_escape similar_to_escape split_part
starts_with string_to_array string_to_table strpos substr substring to_ascii to_bin
to_hex to_oct translate unicode_assigned unistr upper get_bit get_byte set_bit set_byte
"""

_NUMBERS = """
abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling
cos cosd cosh cot cotd degrees div erf erfc exp factorial floor gamma gcd lcm lgamma ln
log log10 min_scale mod pi pow power radians random random_normal round scale sign sin
sind sinh sqrt tan tand tanh to_number trim_scale trunc width_bucket
"""

_TIMES = """
age clock_timestamp date_add date_bin date_part date_subtract date_trunc extract
isfinite justify_days justify_hours justify_interval make_date make_interval make_time
make_timestamp make_timestamptz now overlaps statement_timestamp timeofday timezone
to_char to_date to_timestamp transaction_timestamp
"""

_JSON = """
array_to_json json_array_elements json_array_elements_text json_array_length
json_build_array json_build_object json_each json_each_text json_extract_path
json_extract_path_text json_object json_object_keys json_strip_nulls json_to_record
json_to_recordset json_typeof jsonb_array_elements jsonb_array_elements_text
jsonb_array_length jsonb_build_array jsonb_build_object jsonb_each jsonb_each_text
jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object jsonb_object_keys
jsonb_path_exists jsonb_path_exists_tz jsonb_path_match jsonb_path_match_tz
jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz
jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz jsonb_pretty
jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset
jsonb_typeof row_to_json to_json to_jsonb
"""

_SEARCH = """
array_to_tsvector json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery
plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter
ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array websearch_to_tsquery
"""

_OTHERS = """
array_append array_cat array_dims array_fill array_length array_lower array_ndims
array_position array_positions array_prepend array_remove array_replace array_reverse
array_sample array_shuffle array_sort array_to_string array_upper cardinality
trim_array unnest generate_series generate_subscripts gen_random_uuid uuidv4 uuidv7
uuid_extract_timestamp uuid_extract_version num_nonnulls num_nulls nextval setval
daterange datemultirange int4multirange int4range int8multirange int8range isempty
lower_inc lower_inf multirange nummultirange numrange range_merge tsmultirange tsrange
tstzmultirange tstzrange upper_inc upper_inf
abbrev area box broadcast center circle diameter diagonal family height host hostmask
inet_merge inet_same_family line lseg masklen netmask network npoints path point
polygon slope text width
"""

FUNCTIONS = frozenset(
    " ".join((_AGGREGATES, _TEXT, _NUMBERS, _TIMES, _JSON, _SEARCH, _OTHERS)).split()
)

_TYPE_NAMES = """
bit bool boolean bpchar bytea char cidr date datemultirange daterange decimal float4
float8 inet int2 int4 int4multirange int4range int8 int8multirange int8range integer
interval json jsonb jsonpath macaddr macaddr8 money name nummultirange numeric
numrange smallint bigint real text time timestamp timestamptz timetz tsmultirange
tsquery tsrange tstzmultirange tstzrange tsvector uuid varbit varchar box circle
line lseg path point polygon record serial serial2 serial4 serial8 bigserial
smallserial
"""

TYPES = frozenset(_TYPE_NAMES.split())

# Options in parentheses or after WITH, of tables, indexes, sequences and EXPLAIN.
_OPTION_NAMES = """
fillfactor security_barrier security_invoker check_option fastupdate
autovacuum_enabled toast_tuple_target deduplicate_items pages_per_range increment
start minvalue maxvalue cache cycle owned_by restart as analyze verbose costs
buffers timing summary wal format
"""

OPTIONS = frozenset(_OPTION_NAMES.split())

INDEX_METHODS = frozenset({"btree", "hash", "gin", "gist", "spgist", "brin"})

# What people write who come from SQLite, and what to write here.
FUNCTION_HINTS = {
    "char": "chr(n)",
    "currval": "INSERT … RETURNING id",
    "date": "CAST(x AS date)",
    "datetime": "now(), or CAST(x AS timestamptz)",
    "group_concat": "string_agg(x, ',')",
    "hex": "encode(x, 'hex')",
    "ifnull": "coalesce(a, b)",
    "iif": "CASE WHEN … THEN … ELSE … END",
    "instr": "strpos(text, part)",
    "json_each": "jsonb_each(x)",
    "json_extract": "x -> 'key', or x ->> 'key' for text",
    "json_insert": "jsonb_insert(x, path, value)",
    "json_set": "jsonb_set(x, path, value)",
    "json_valid": "x IS JSON (Postgres 16 and newer)",
    "julianday": "extract(julian FROM x)",
    "last_insert_rowid": "INSERT … RETURNING id",
    "lastval": "INSERT … RETURNING id",
    "printf": "format('%s', x)",
    "randomblob": "gen_random_uuid()",
    "strftime": "to_char(x, 'YYYY-MM-DD')",
    "time": "CAST(x AS time)",
    "total": "coalesce(sum(x), 0)",
    "typeof": "jsonb_typeof(to_jsonb(x))",
    "unixepoch": "extract(epoch FROM now())",
}

TYPE_HINTS = {
    "blob": "bytea",
    "datetime": "timestamptz",
    "double": "double precision",
    "long": "bigint",
    "mediumint": "integer",
    "number": "numeric",
    "string": "text",
    "tinyint": "smallint",
    "uint8array": "bytea",
}

STATEMENT_HINTS = {
    "CopyStmt": "COPY",
    "CreateTrigStmt": "CREATE TRIGGER",
    "DeallocateStmt": "DEALLOCATE",
    "DoStmt": "DO",
    "ExecuteStmt": "EXECUTE",
    "LockStmt": "LOCK",
    "PrepareStmt": "PREPARE",
    "TransactionStmt": "BEGIN, COMMIT, ROLLBACK and SAVEPOINT",
    "VacuumStmt": "VACUUM and ANALYZE",
    "VariableSetStmt": "SET and RESET",
    "VariableShowStmt": "SHOW",
}

# A piece of a statement that doesn't parse → what to write instead.
SYNTAX_HINTS = (
    (
        r"\bautoincrement\b",
        "write `id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY`",
    ),
    (
        r"\binsert\s+or\s+(replace|ignore|abort|fail|rollback)\b",
        "write INSERT … ON CONFLICT (key) DO UPDATE SET …, or DO NOTHING",
    ),
    (r"^\s*replace\s+into\b", "write INSERT … ON CONFLICT (key) DO UPDATE SET …"),
    (r"^\s*pragma\b", "there are no PRAGMAs in Postgres"),
    (r"\bwithout\s+rowid\b", "leave WITHOUT ROWID out"),
    (r"\)\s*strict\s*;?\s*$", "leave STRICT out: every table is strict"),
    (r"\?", "placeholders are $1, $2, …"),
    (r"`", 'quote names as "name"'),
    (r"\bdouble\s+(?!precision)", "write double precision"),
)
