//! Changes that go on to their end, record included, also where the caller goes away meanwhile: a call that is given
//! up is dropped wherever it waits, and what it had changed by then would be on no record.

use std::sync::Arc;

use paymesh_proto::crypto::v1::{
    self as proto, key_service_server::KeyService, vault_service_server::VaultService,
};
use tonic::{Request, Response, Status};

/// Handlers whose changes are carried to their end. What changes nothing ends with its caller.
pub struct ToItsEnd<H>(Arc<H>);

type Answer<T> = Result<Response<T>, Status>;

impl<H: Send + Sync + 'static> ToItsEnd<H> {
    /// Carries the changes of `handler` to their end.
    pub fn new(handler: H) -> Self {
        Self(Arc::new(handler))
    }

    async fn carry<T, F>(&self, work: impl FnOnce(Arc<H>) -> F) -> Answer<T>
    where
        T: Send + 'static,
        F: Future<Output = Answer<T>> + Send + 'static,
    {
        let working = tokio::spawn(mesh::scope::carry(work(Arc::clone(&self.0))));
        // It panicked.
        working.await.unwrap_or_else(|_| Err(super::internal().into()))
    }
}

#[tonic::async_trait]
impl<K: KeyService> KeyService for ToItsEnd<K> {
    async fn create_key(&self, request: Request<proto::CreateKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.create_key(request).await }).await
    }

    async fn get_key(&self, request: Request<proto::GetKeyRequest>) -> Answer<proto::Key> {
        self.0.get_key(request).await
    }

    async fn list_keys(&self, request: Request<proto::ListKeysRequest>) -> Answer<proto::ListKeysResponse> {
        self.0.list_keys(request).await
    }

    async fn rotate_key(&self, request: Request<proto::RotateKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.rotate_key(request).await }).await
    }

    async fn update_key(&self, request: Request<proto::UpdateKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.update_key(request).await }).await
    }

    async fn disable_key(&self, request: Request<proto::DisableKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.disable_key(request).await }).await
    }

    async fn enable_key(&self, request: Request<proto::EnableKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.enable_key(request).await }).await
    }

    async fn schedule_key_destruction(
        &self,
        request: Request<proto::ScheduleKeyDestructionRequest>,
    ) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.schedule_key_destruction(request).await }).await
    }

    async fn cancel_key_destruction(
        &self,
        request: Request<proto::CancelKeyDestructionRequest>,
    ) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.cancel_key_destruction(request).await }).await
    }

    async fn get_import_parameters(
        &self,
        request: Request<proto::GetImportParametersRequest>,
    ) -> Answer<proto::ImportParameters> {
        self.0.get_import_parameters(request).await
    }

    async fn import_key(&self, request: Request<proto::ImportKeyRequest>) -> Answer<proto::Key> {
        self.carry(|keys| async move { keys.import_key(request).await }).await
    }
}

#[tonic::async_trait]
impl<V: VaultService> VaultService for ToItsEnd<V> {
    async fn tokenize(&self, request: Request<proto::TokenizeRequest>) -> Answer<proto::Token> {
        self.carry(|vault| async move { vault.tokenize(request).await }).await
    }

    async fn get_token(&self, request: Request<proto::GetTokenRequest>) -> Answer<proto::Token> {
        self.0.get_token(request).await
    }

    async fn detokenize(
        &self,
        request: Request<proto::DetokenizeRequest>,
    ) -> Answer<proto::DetokenizeResponse> {
        self.0.detokenize(request).await
    }

    async fn batch_detokenize(
        &self,
        request: Request<proto::BatchDetokenizeRequest>,
    ) -> Answer<proto::BatchDetokenizeResponse> {
        self.0.batch_detokenize(request).await
    }

    async fn batch_get_tokens(
        &self,
        request: Request<proto::BatchGetTokensRequest>,
    ) -> Answer<proto::BatchGetTokensResponse> {
        self.0.batch_get_tokens(request).await
    }

    async fn batch_tokenize(
        &self,
        request: Request<proto::BatchTokenizeRequest>,
    ) -> Answer<proto::BatchTokenizeResponse> {
        self.carry(|vault| async move { vault.batch_tokenize(request).await }).await
    }

    async fn delete_token(
        &self,
        request: Request<proto::DeleteTokenRequest>,
    ) -> Answer<proto::DeleteTokenResponse> {
        self.carry(|vault| async move { vault.delete_token(request).await }).await
    }

    async fn batch_delete_tokens(
        &self,
        request: Request<proto::BatchDeleteTokensRequest>,
    ) -> Answer<proto::BatchDeleteTokensResponse> {
        self.carry(|vault| async move { vault.batch_delete_tokens(request).await }).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Notify;

    use super::*;

    /// Goes on when it is told to, and tells.
    #[derive(Default)]
    struct Waiting {
        began: Notify,
        go_on: Notify,
        ended: Notify,
    }

    #[tokio::test]
    async fn a_change_goes_on_where_its_caller_goes_away() {
        let handler = ToItsEnd::new(Waiting::default());
        let inside = Arc::clone(&handler.0);
        let calling = handler.carry(|waiting| async move {
            waiting.began.notify_one();
            waiting.go_on.notified().await;
            waiting.ended.notify_one();
            Ok(Response::new(()))
        });
        tokio::select! {
            _ = calling => panic!("it waits"),
            () = inside.began.notified() => {}
        }
        inside.go_on.notify_one();
        tokio::time::timeout(std::time::Duration::from_secs(10), inside.ended.notified()).await.unwrap();
    }
}
