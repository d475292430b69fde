// What the JavaScript SDK finds with the provider that is named on the command line, as one line of JSON.
import { fromContainerMetadata, fromHttp, fromInstanceMetadata, fromNodeProviderChain } from "@aws-sdk/credential-providers";

const providers = { fromContainerMetadata, fromHttp, fromInstanceMetadata, fromNodeProviderChain };
const { accessKeyId, secretAccessKey, sessionToken, expiration } = await providers[process.argv[2]]()();
console.log(JSON.stringify({ accessKeyId, secretAccessKey, sessionToken, expiration }));
