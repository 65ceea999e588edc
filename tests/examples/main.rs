//! The examples do what their documentation says.

mod service;
mod upgrade;

tester::modules!(service, upgrade);
