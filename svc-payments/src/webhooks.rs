//! What processors tell by themselves. A webhook is never believed: it only makes the payment or refund
//! that it names due at once, so that the background asks the processor. Two of them do what one does.

use std::sync::Arc;

use mesh::{Fault, Reason};
use paymesh_proto::payments::v1::{
    ReceiveWebhookRequest, ReceiveWebhookResponse, webhook_service_server::WebhookService,
};
use tonic::{Request, Response, Status};

use crate::{
    driver::Driver,
    processor::{WebhookError, WebhookSubject},
    store::Store,
};

/// Takes webhooks.
pub struct Webhooks<S>(Arc<Driver<S>>);

impl<S: Store> Webhooks<S> {
    /// A service for the processor of this driver.
    pub fn new(driver: Arc<Driver<S>>) -> Self {
        Self(driver)
    }

    async fn receive(&self, request: ReceiveWebhookRequest) -> Result<ReceiveWebhookResponse, Fault> {
        let processor = self.0.processors.get(&request.processor);
        let processor =
            processor.ok_or_else(|| Fault::new(Reason::ProcessorNotFound, "There is no such processor."))?;
        let body = request.body.map(|body| body.data).unwrap_or_default();
        let about = match processor.verify_webhook(&request.headers, &body).map_err(refused)? {
            WebhookSubject::Payment(id) => Some(id),
            WebhookSubject::ProcessorReference(reference) => {
                let name = processor.name().to_owned();
                let found = self.0.store.by_processor_reference(name, reference).await?;
                found.map(|(_, id)| id)
            }
            WebhookSubject::Other => None,
        };
        if let Some(payment) = about {
            // First: whoever begins to drive it from now on asks the processor after it sent this.
            self.0.under_way.told(payment);
            self.0.store.make_due(payment, self.0.now()).await?;
        }
        Ok(ReceiveWebhookResponse {})
    }
}

fn refused(error: WebhookError) -> Fault {
    match error {
        WebhookError::Signature => {
            Fault::new(Reason::WebhookSignatureInvalid, "The webhook is not signed as it must be.")
        }
        WebhookError::Body => Fault::new(Reason::BodyMalformed, "The webhook's body cannot be read.")
            .violating("body", "must be what the processor documents"),
    }
}

#[tonic::async_trait]
impl<S: Store> WebhookService for Webhooks<S> {
    async fn receive_webhook(
        &self,
        request: Request<ReceiveWebhookRequest>,
    ) -> Result<Response<ReceiveWebhookResponse>, Status> {
        Ok(Response::new(self.receive(request.into_inner()).await?))
    }
}
