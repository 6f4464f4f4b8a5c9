//! CryptoService: verbs on keys that tenants name, one at a time, many at once, and as streams.

use std::sync::Arc;

use mesh::Call;
use paymesh_proto::crypto::v1::{
    self as proto, crypto_service_server::CryptoService, operation::Verb as Asked, outcome::Result as Answer,
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    check_count,
    streams::{self, Messages},
};
use crate::{operations::Operations, store::Store};

/// Answers CryptoService.
pub struct CryptoHandler<S> {
    operations: Arc<Operations<S>>,
}

impl<S: Store> CryptoHandler<S> {
    /// Carries out what is asked with `operations`.
    pub fn new(operations: Arc<Operations<S>>) -> Self {
        Self { operations }
    }

    async fn one<Q, A>(
        &self,
        request: Request<Q>,
        asked: impl FnOnce(Q) -> Asked,
        answer: impl FnOnce(Answer) -> Option<A>,
    ) -> Result<Response<A>, Status> {
        let call = Call::of(&request)?;
        let answered = self.operations.one(&call, asked(request.into_inner())).await?;
        Ok(Response::new(answer(answered).ok_or_else(super::internal)?))
    }
}

/// The service, whose unary RPCs are each the operation of their name.
macro_rules! crypto_service {
    ($($rpc:ident($request:ident) -> $response:ident = $asked:ident, $answer:ident;)+) => {
        #[tonic::async_trait]
        impl<S: Store> CryptoService for CryptoHandler<S> {
            $(
                async fn $rpc(
                    &self,
                    request: Request<proto::$request>,
                ) -> Result<Response<proto::$response>, Status> {
                    let answer = |answer| match answer {
                        Answer::$answer(answer) => Some(answer),
                        _ => None,
                    };
                    self.one(request, Asked::$asked, answer).await
                }
            )+

            async fn batch(
                &self,
                request: Request<proto::BatchRequest>,
            ) -> Result<Response<proto::BatchResponse>, Status> {
                let call = Call::of(&request)?;
                let operations = request.into_inner().operations;
                check_count("operations", operations.len())?;
                let (outcomes, entries) = self.operations.many(&call, operations).await;
                self.operations.record(entries).await?;
                Ok(Response::new(proto::BatchResponse { outcomes }))
            }

            type StreamStream = Messages<proto::StreamResponse>;

            async fn stream(
                &self,
                request: Request<Streaming<proto::StreamRequest>>,
            ) -> Result<Response<Self::StreamStream>, Status> {
                let call = Call::of(&request)?;
                Ok(Response::new(streams::operations(Arc::clone(&self.operations), call, request.into_inner())))
            }

            type EncryptLargeStream = Messages<proto::LargeResponse>;

            async fn encrypt_large(
                &self,
                request: Request<Streaming<proto::LargeRequest>>,
            ) -> Result<Response<Self::EncryptLargeStream>, Status> {
                let call = Call::of(&request)?;
                Ok(Response::new(streams::encrypt(Arc::clone(&self.operations), call, request.into_inner())))
            }

            type DecryptLargeStream = Messages<proto::LargeResponse>;

            async fn decrypt_large(
                &self,
                request: Request<Streaming<proto::LargeRequest>>,
            ) -> Result<Response<Self::DecryptLargeStream>, Status> {
                let call = Call::of(&request)?;
                Ok(Response::new(streams::decrypt(Arc::clone(&self.operations), call, request.into_inner())))
            }
        }
    };
}

crypto_service! {
    encrypt(EncryptRequest) -> EncryptResponse = Encrypt, Encrypted;
    decrypt(DecryptRequest) -> DecryptResponse = Decrypt, Decrypted;
    rewrap(RewrapRequest) -> EncryptResponse = Rewrap, Encrypted;
    translate(TranslateRequest) -> EncryptResponse = Translate, Encrypted;
    generate_data_key(GenerateDataKeyRequest) -> DataKey = GenerateDataKey, DataKey;
    generate_wrapped_data_key(GenerateDataKeyRequest) -> WrappedDataKey = GenerateWrappedDataKey, WrappedDataKey;
    decrypt_data_key(DecryptDataKeyRequest) -> DataKey = DecryptDataKey, DataKey;
    compute_mac(ComputeMacRequest) -> ComputeMacResponse = ComputeMac, Mac;
    verify_mac(VerifyMacRequest) -> VerifyResponse = VerifyMac, Verified;
    blind_index(BlindIndexRequest) -> BlindIndexResponse = BlindIndex, Index;
    encrypt_deterministic(EncryptRequest) -> EncryptResponse = EncryptDeterministic, Encrypted;
    encrypt_format(FormatRequest) -> FormatResponse = EncryptFormat, Formatted;
    decrypt_format(FormatRequest) -> FormatResponse = DecryptFormat, Formatted;
    sign(SignRequest) -> SignResponse = Sign, Signed;
    verify(VerifyRequest) -> VerifyResponse = Verify, Verified;
}
