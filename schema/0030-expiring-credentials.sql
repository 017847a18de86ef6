-- The page of credentials names those that expire soon.
create index credentials_by_expiry on credentials (expires_at)
  where revoked_at is null and expires_at is not null;
