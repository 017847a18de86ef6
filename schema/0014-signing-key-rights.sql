-- A write asks for the key that signed its token, too: `key:<kid>` in `revocations`. The default lets the
-- previous release call the function with two arguments.
drop function if exists assert_unrevoked(text, text);
create or replace function assert_unrevoked(origin text, token_id text, key_id text default null) returns void
  language plpgsql volatile as $$
declare
  subjects constant text[] := array[origin, 'token:' || token_id, 'key:' || key_id];
begin
  perform pg_advisory_xact_lock_shared(hashtextextended(s.subject, 7))
     from unnest(subjects) as s (subject)
    where s.subject is not null;
  if exists (select 1 from revocations r where r.subject = any(subjects)) then
    raise exception 'the credential or token was revoked' using errcode = 'RK401';
  end if;
end $$;

-- The key that signed the token that created the URL.
alter table upload_urls add column if not exists key_id text;
