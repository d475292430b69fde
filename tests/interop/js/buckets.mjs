// What a program without any settings of its own sees of the account: version of the SDK, its own ARN, the buckets.
import { readFileSync } from "node:fs";
import { ListBucketsCommand, S3Client } from "@aws-sdk/client-s3";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";

const { Arn } = await new STSClient().send(new GetCallerIdentityCommand());
const { Buckets } = await new S3Client().send(new ListBucketsCommand());
const { version } = JSON.parse(readFileSync(new URL("node_modules/@aws-sdk/client-s3/package.json", import.meta.url)));
console.log(`AWS SDK for JavaScript ${version}`);
console.log(Arn);
for (const { Name } of Buckets) console.log(Name);
