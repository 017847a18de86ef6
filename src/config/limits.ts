/** Longest lifetime of an access token that the registry issues. */
export const TOKEN_SECONDS_MAX = 86_400

/**
 * Bytes of each part of a multipart upload to S3, apart from the last. S3 takes at least 5 MiB and at
 * most 10 000 parts, and some servers want all parts to have one size; 8 MiB make 78 GiB.
 */
export const S3_PART_BYTES = 8 * 1024 * 1024
export const S3_PARTS_MAX = 10_000

/** Fewest characters of a password that an operator chooses: a guesser must not reach it in a lifetime. */
export const PASSWORD_CHARACTERS_MIN = 16
