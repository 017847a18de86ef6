-- Whether the response of an attempt may be from an internal server. Null: an earlier release made the attempt.
alter table delivery_attempts add column internal boolean;
