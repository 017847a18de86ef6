-- Sessions of people: a browser that sends the secret as a cookie has, on pages, the rights of one login. The login is a
-- credential with one of its secrets, a token by its claims, or the admin password of the environment. `password_proof` is a
-- hash of the session's secret and that password, so that nobody can guess the password from it. A session is used until
-- `ends_at`, unless nobody uses it for too long. `actor` and `origin` are the name of the caller and the source of its rights.
create table sessions (
  id uuid primary key default gen_random_uuid(),
  secret_sha256 bytea not null,
  actor text not null,
  origin text,
  credential_id bigint references credentials (id) on delete cascade,
  credential_secret_sha256 bytea,
  token jsonb,
  password_proof bytea,
  created_at timestamptz not null default now(),
  seen_at timestamptz not null default now(),
  ends_at timestamptz not null,
  constraint sessions_secret_once unique (secret_sha256),
  constraint sessions_secret_hashed check (octet_length(secret_sha256) = 32),
  constraint sessions_of_one_login check (num_nonnulls(credential_id, token, password_proof) = 1),
  constraint sessions_credential_whole check (
    (credential_id is null) = (credential_secret_sha256 is null)
  )
);
create index sessions_by_actor on sessions (actor, seen_at);
create index sessions_by_credential on sessions (credential_id) where credential_id is not null;
create index sessions_by_end on sessions (ends_at);
