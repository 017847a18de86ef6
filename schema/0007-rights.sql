-- Every write asks whether the credential or policy `origin`, the token that allowed it, or the key that signed the
-- token was revoked. A revocation takes the same locks exclusively: it waits for the writes that were faster, and a
-- write that waited for it is refused. The function is volatile, so its second query sees what was committed while
-- the first one waited.
create function assert_unrevoked(origin text, token_id text, key_id text) returns void
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

create function lock_revoked() returns trigger
  language plpgsql as $$
begin
  perform pg_advisory_xact_lock(hashtextextended(new.subject, 7));
  return new;
end $$;

-- A restore inserts old revocations, which wait for nothing.
create trigger revocations_wait_for_writes before insert on revocations
  for each row when (new.revoked_at >= now()) execute function lock_revoked();

-- A repository without content goes away unless it is permanent: its settings were changed, or a manifest
-- was pushed. A sweep sets the latter, so it examines a repository until its first manifest only.
-- Repositories that exist already stay.
alter table repositories add column permanent boolean not null default true;
alter table repositories alter column permanent set default false;
create index repositories_not_permanent on repositories (created_at, id) where not permanent;

-- Bounds the uploads in progress of an actor.
create index uploads_by_actor on uploads (actor);
create function assert_open_uploads_below(most integer, name text) returns void
  language plpgsql stable as $$
begin
  if (select count(*) from (select 1 from uploads u where u.actor = name limit most) as open) >= most then
    raise exception '% has % uploads in progress: finish or cancel some, or wait until they expire', name, most
          using errcode = 'RK429';
  end if;
end $$;

-- How often the URL was opened, and the key that signed the token that created it.
alter table upload_urls add column attempts integer not null default 0;
alter table upload_urls add column key_id text;
