-- The identity of a webhook in the tokens that the registry signs. It is never used again, unlike a name, and a new
-- URL gets another one.
alter table webhooks add column identity uuid not null default gen_random_uuid();
