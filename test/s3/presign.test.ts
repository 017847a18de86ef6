import { expect, it } from 'vitest'
import { presign } from '../../src/storage/s3/presign.ts'

// The example of AWS' documentation, page "Authenticating Requests: Using Query Parameters".
it('signs as the AWS documentation does', () => {
  const link = presign({
    url: new URL('https://examplebucket.s3.amazonaws.com/test.txt'),
    region: 'us-east-1',
    credentials: {
      accessKeyId: 'AKIAIOSFODNN7EXAMPLE',
      secretAccessKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    },
    seconds: 86_400,
    now: new Date('2013-05-24T00:00:00Z'),
    parameters: {},
  })
  expect(new URL(link).searchParams.get('X-Amz-Signature')).toBe(
    'aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404',
  )
})
