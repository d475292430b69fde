"""What a program without any settings of its own sees of the account: version of the SDK, its own ARN, the buckets."""

import boto3

identity = boto3.client("sts").get_caller_identity()
listed = boto3.client("s3").list_buckets()
print("boto3", boto3.__version__)
print(identity["Arn"])
for bucket in listed["Buckets"]:
    print(bucket["Name"])
