//! Proposals to the system chaincodes: who may do what, and every refusal with Fabric's text.

use bytes::Bytes;
use selvedge_msp::SigningIdentity;
use selvedge_peer::channel::{ChannelEvent, Channels};
use selvedge_peer::metrics::Metrics;
use selvedge_peer::services::endorser::{EndorserOptions, EndorserService};
use selvedge_protos::Message;
use selvedge_protos::block::header_hash;
use selvedge_protos::common::{
    Block, BlockchainInfo, ChannelHeader, Config, Header, HeaderType, SignatureHeader,
};
use selvedge_protos::envelope::transaction_id;
use selvedge_protos::protos::{
    ChaincodeAction, ChaincodeHeaderExtension, ChaincodeId, ChaincodeInput,
    ChaincodeInvocationSpec, ChaincodeProposalPayload, ChaincodeSpec, ChannelQueryResponse,
    ProcessedTransaction, Proposal, ProposalResponse, ProposalResponsePayload, SignedProposal,
};
use selvedge_transport::services::protos::endorser_server::Endorser;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tonic::Request;

use crate::support::{
    CHANNEL, Chain, Network, commit_by_queue, join, now, set_acl, transaction_id as id_in,
};

/// A peer of Org1 that has joined the channel, as far as the endorser needs one.
struct Bench {
    network: Network,
    channels: Channels,
    chain: Chain,
    metrics: Metrics,
    endorser: EndorserService,
    _events: mpsc::Receiver<ChannelEvent>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(EndorserOptions {
            check_expiration: true,
            ..Default::default()
        })
        .await
    }

    async fn with(options: EndorserOptions) -> Self {
        let network = Network::new();
        let (channels, events) = network.channels("data");
        join(&channels, network.genesis_bytes()).await.unwrap();
        let metrics = Metrics::new("1").unwrap();
        let endorser = EndorserService::new(
            network.msp(1),
            network.peer(1),
            channels.clone(),
            metrics.clone(),
            options,
            TaskTracker::new(),
        );
        Self {
            chain: Chain::new(&network),
            network,
            channels,
            metrics,
            endorser,
            _events: events,
        }
    }

    /// Puts a block of two transactions into the ledger.
    fn commit(&mut self) -> Block {
        let block = self.chain.push(&["a", "b"]);
        let channel = self.channels.get(CHANNEL).unwrap();
        channel.ledger().append(&block).unwrap();
        block
    }

    /// Commits a config block with what `change` makes of the configuration.
    async fn reconfigure(&mut self, change: impl FnOnce(&mut Config)) {
        let block = self.chain.push_config(change);
        commit_by_queue(&self.channels.get(CHANNEL).unwrap(), &[block]).await;
    }

    async fn process(&self, signed: SignedProposal) -> Result<ProposalResponse, String> {
        let answer = self.endorser.process_proposal(Request::new(signed)).await;
        match answer {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::Unknown);
                Err(status.message().to_owned())
            }
        }
    }

    /// Calls a system chaincode: its payload, or its message.
    async fn call(&self, call: &Call<'_>) -> Result<Bytes, String> {
        let answer = self.process(call.signed()).await?;
        let response = answer.response.unwrap();
        if response.status == 200 {
            Ok(response.payload)
        } else {
            assert_eq!(response.status, 500);
            assert_eq!(answer.endorsement, None);
            Err(response.message)
        }
    }

    fn metric(&self, line: &str) -> bool {
        let text = self.metrics.encode().unwrap();
        text.lines().any(|found| found == line)
    }
}

/// A proposal, to be changed before it is signed.
struct Call<'a> {
    signer: &'a SigningIdentity,
    channel_header: ChannelHeader,
    signature_header: SignatureHeader,
    chaincode: Option<ChaincodeId>,
    spec: Option<ChaincodeSpec>,
}

impl<'a> Call<'a> {
    fn new(
        signer: &'a SigningIdentity,
        channel: &str,
        chaincode: &str,
        arguments: &[&[u8]],
    ) -> Self {
        let nonce = Bytes::copy_from_slice(format!("{:?}", std::time::Instant::now()).as_bytes());
        let creator = signer.serialized().clone();
        let id = ChaincodeId {
            name: chaincode.to_owned(),
            ..Default::default()
        };
        let arguments = arguments.iter().copied().map(Bytes::copy_from_slice);
        Self {
            signer,
            channel_header: ChannelHeader {
                r#type: HeaderType::EndorserTransaction.into(),
                channel_id: channel.to_owned(),
                tx_id: transaction_id(&nonce, &creator),
                timestamp: Some(now()),
                ..Default::default()
            },
            signature_header: SignatureHeader { creator, nonce },
            chaincode: Some(id.clone()),
            spec: Some(ChaincodeSpec {
                chaincode_id: Some(id),
                input: Some(ChaincodeInput {
                    args: arguments.collect(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
        }
    }

    fn proposal(&self) -> Proposal {
        let mut channel_header = self.channel_header.clone();
        let extension = ChaincodeHeaderExtension {
            chaincode_id: self.chaincode.clone(),
        };
        channel_header.extension = extension.encode_to_vec().into();
        let header = Header {
            channel_header: channel_header.encode_to_vec().into(),
            signature_header: self.signature_header.encode_to_vec().into(),
        };
        let invocation = ChaincodeInvocationSpec {
            chaincode_spec: self.spec.clone(),
        };
        let payload = ChaincodeProposalPayload {
            input: invocation.encode_to_vec().into(),
            ..Default::default()
        };
        Proposal {
            header: header.encode_to_vec().into(),
            payload: payload.encode_to_vec().into(),
            ..Default::default()
        }
    }

    fn signed(&self) -> SignedProposal {
        let bytes = Bytes::from(self.proposal().encode_to_vec());
        SignedProposal {
            signature: self.signer.sign(&bytes).unwrap(),
            proposal_bytes: bytes,
        }
    }
}

#[tokio::test]
async fn malformed_proposals_are_errors_of_the_call() {
    type Change = fn(&mut Call<'_>);
    let cases: [(Change, &str); 9] = [
        (
            |call| call.chaincode = None,
            "ChaincodeHeaderExtension.ChaincodeId is nil",
        ),
        (
            |call| call.chaincode = Some(ChaincodeId::default()),
            "ChaincodeHeaderExtension.ChaincodeId.Name is empty",
        ),
        (
            |call| call.spec = None,
            "chaincode invocation spec did not contain chaincode spec",
        ),
        (
            |call| call.spec = Some(ChaincodeSpec::default()),
            "chaincode input did not contain any input",
        ),
        (
            |call| call.channel_header.r#type = HeaderType::ConfigUpdate.into(),
            "error validating proposal: invalid header type CONFIG_UPDATE",
        ),
        (
            |call| call.channel_header.r#type = 77,
            "error validating proposal: invalid header type 77",
        ),
        (
            |call| call.channel_header.epoch = 1,
            "error validating proposal: epoch is non-zero",
        ),
        (
            |call| call.signature_header.nonce = Bytes::new(),
            "error validating proposal: nonce is empty",
        ),
        (
            |call| call.signature_header.creator = Bytes::new(),
            "error validating proposal: creator is empty",
        ),
    ];
    let bench = Bench::new().await;
    let admin = bench.network.admin(1);
    for (change, text) in &cases {
        let mut call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
        change(&mut call);
        assert_eq!(bench.process(call.signed()).await.unwrap_err(), *text);
    }
    assert!(bench.metric("endorser_proposal_validation_failures 9"));
    assert!(bench.metric("endorser_proposals_received 9"));
    assert!(bench.metric("endorser_successful_proposals 0"));
}

#[tokio::test]
async fn layers_that_do_not_parse_are_named() {
    let bench = Bench::new().await;
    let unfiltered = Bench::with(EndorserOptions::default()).await;
    let junk = SignedProposal {
        proposal_bytes: vec![0xff].into(),
        signature: vec![1].into(),
    };
    let error = bench.process(junk.clone()).await.unwrap_err();
    assert!(error.starts_with("failed parsing proposal: "), "{error}");
    let error = unfiltered.process(junk).await.unwrap_err();
    assert!(
        error.starts_with("error unmarshalling Proposal: "),
        "{error}"
    );

    let admin = bench.network.admin(1);
    let call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
    let with = |change: fn(&mut Proposal)| {
        let mut proposal = call.proposal();
        change(&mut proposal);
        SignedProposal {
            proposal_bytes: proposal.encode_to_vec().into(),
            signature: vec![1].into(),
        }
    };
    for (signed, text) in [
        (
            with(|proposal| proposal.header = vec![0xff].into()),
            "error unmarshalling Header: ",
        ),
        (
            with(|proposal| proposal.payload = vec![0xff].into()),
            "error unmarshalling ChaincodeProposalPayload: ",
        ),
    ] {
        let error = unfiltered.process(signed).await.unwrap_err();
        assert!(error.starts_with(text), "{error}");
    }
    let error = unfiltered.process(SignedProposal::default()).await;
    assert_eq!(
        error.unwrap_err(),
        "ChaincodeHeaderExtension.ChaincodeId is nil"
    );
}

#[tokio::test]
async fn the_creator_must_be_who_signed() {
    let bench = Bench::new().await;
    let (admin, user) = (bench.network.admin(1), bench.network.user(1));

    let mut call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
    let expected = std::mem::replace(&mut call.channel_header.tx_id, "7".to_owned());
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        format!(
            "error validating proposal: incorrectly computed txid '7' -- expected '{expected}'"
        )
    );

    let mut call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
    call.signer = &user;
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        "error validating proposal: access denied: channel [] creator org [Org1MSP]"
    );

    let call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
    let unsigned = SignedProposal {
        signature: Bytes::new(),
        ..call.signed()
    };
    assert_eq!(
        bench.process(unsigned).await.unwrap_err(),
        "error validating proposal: empty signature bytes"
    );

    // Whoever is in no MSP of the channel is nobody; so is a foreign organisation outside of it.
    let stranger = bench.network.admin(3);
    let call = Call::new(
        &stranger,
        CHANNEL,
        "qscc",
        &[b"GetChainInfo", CHANNEL.as_bytes()],
    );
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        "error validating proposal: access denied: channel [testchannel] creator org unknown, \
         creator is malformed"
    );
    let neighbour = bench.network.admin(2);
    let call = Call::new(&neighbour, "", "cscc", &[b"GetChannels"]);
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        "error validating proposal: access denied: channel [] creator org unknown, creator is \
         malformed"
    );
}

#[tokio::test]
async fn expired_creators_are_refused_where_the_filter_is_on() {
    let bench = Bench::new().await;
    let expired = bench.network.expired(1, "client");
    let call = Call::new(
        &expired,
        CHANNEL,
        "qscc",
        &[b"GetChainInfo", CHANNEL.as_bytes()],
    );
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        "proposal client identity expired"
    );
    assert!(bench.metric("endorser_proposals_received 0"));

    let lenient = Bench::with(EndorserOptions::default()).await;
    let expired = lenient.network.expired(1, "client");
    let call = Call::new(
        &expired,
        CHANNEL,
        "qscc",
        &[b"GetChainInfo", CHANNEL.as_bytes()],
    );
    // Fabric's MSPs do not look at the end of a certificate either.
    lenient.call(&call).await.unwrap();
}

#[tokio::test]
async fn proposals_from_another_time_are_refused_where_the_filter_is_on() {
    let bench = Bench::with(EndorserOptions {
        time_window: Some(std::time::Duration::from_secs(60)),
        ..Default::default()
    })
    .await;
    let admin = bench.network.admin(1);
    let mut call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
    bench.call(&call).await.unwrap();
    call.channel_header.timestamp.as_mut().unwrap().seconds -= 3600;
    let error = bench.process(call.signed()).await.unwrap_err();
    assert!(
        error.starts_with("request unauthorized due to incorrect timestamp "),
        "{error}"
    );
}

#[test]
fn more_proposals_than_the_limit_are_refused() {
    // One thread for all that blocks, so that the test can occupy it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let bench = Bench::with(EndorserOptions {
            concurrency: std::num::NonZeroUsize::new(1),
            ..Default::default()
        })
        .await;
        let admin = bench.network.admin(1);
        let call = Call::new(&admin, "", "cscc", &[b"GetChannels"]);
        let (go_on, wait) = std::sync::mpsc::channel::<()>();
        let busy = tokio::task::spawn_blocking(move || wait.recv());
        let first = bench.process(call.signed());
        let second = async {
            let refused = bench.process(call.signed()).await;
            go_on.send(()).unwrap();
            refused
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap().response.unwrap().status, 200);
        assert_eq!(
            second.unwrap_err(),
            "too many requests for /protos.Endorser, exceeding concurrency limit (1)"
        );
        busy.await.unwrap().unwrap();
        bench.call(&call).await.unwrap();
    });
}

#[tokio::test]
async fn what_is_not_there_is_said_in_the_answer() {
    let bench = Bench::new().await;
    let user = bench.network.user(1);
    let nowhere = Call::new(&user, "nowhere", "qscc", &[b"GetChainInfo", b"nowhere"]);
    assert_eq!(
        bench.call(&nowhere).await.unwrap_err(),
        "channel 'nowhere' not found"
    );
    let chaincode = Call::new(&user, CHANNEL, "basic", &[b"read", b"a"]);
    assert_eq!(
        bench.call(&chaincode).await.unwrap_err(),
        "make sure the chaincode basic has been successfully defined on channel testchannel and \
         try again: chaincode basic not found"
    );
    assert!(
        !bench.metrics.encode().unwrap().contains("basic"),
        "no metric has a client's words for a label"
    );
}

#[tokio::test]
async fn a_transaction_id_that_is_in_the_ledger_is_refused() {
    let mut bench = Bench::new().await;
    let block = bench.commit();
    let user = bench.network.user(1);
    let opened = selvedge_protos::envelope::OpenedEnvelope::decode(
        block.data.as_ref().unwrap().data[0].clone(),
    )
    .unwrap();
    let mut call = Call::new(
        &user,
        CHANNEL,
        "qscc",
        &[b"GetChainInfo", CHANNEL.as_bytes()],
    );
    call.channel_header.tx_id = id_in(&block, 0);
    call.signature_header = opened.signature_header;
    assert_eq!(
        bench.process(call.signed()).await.unwrap_err(),
        format!(
            "duplicate transaction found [{}]. Creator [{}]",
            id_in(&block, 0),
            hex::encode(user.serialized())
        )
    );
    assert!(bench.metric(
        r#"endorser_duplicate_transaction_failures{chaincode="qscc",channel="testchannel"} 1"#
    ));
}

#[tokio::test]
async fn only_writers_propose_to_chaincodes_of_users() {
    let mut bench = Bench::new().await;
    // The network's writers are admins and clients of organisations; peers only read.
    let peer = bench.network.peer(2);
    let call = Call::new(&peer, CHANNEL, "basic", &[b"read"]);
    let error = bench.process(call.signed()).await.unwrap_err();
    assert!(
        error.starts_with(
            "Failed evaluating policy on signed data during check policy on channel [testchannel] \
             with policy [/Channel/Application/Writers]: ["
        ),
        "{error}"
    );
    bench
        .reconfigure(|config| set_acl(config, "peer/Propose", "Admins"))
        .await;
    let user = bench.network.user(1);
    let call = Call::new(&user, CHANNEL, "basic", &[b"read"]);
    let error = bench.process(call.signed()).await.unwrap_err();
    assert!(
        error.starts_with(
            "failed evaluating policy on signed data during check policy \
             [/Channel/Application/Admins]: ["
        ),
        "{error}"
    );
}

#[tokio::test]
async fn channels_are_listed_for_members_and_joined_by_admins() {
    let bench = Bench::new().await;
    let (admin, user, peer) = (
        bench.network.admin(1),
        bench.network.user(1),
        bench.network.peer(1),
    );
    for member in [&admin, &user, &peer] {
        let listed = bench
            .call(&Call::new(member, "", "cscc", &[b"GetChannels"]))
            .await;
        let listed = ChannelQueryResponse::decode(listed.unwrap()).unwrap();
        let names: Vec<_> = listed.channels.iter().map(|it| &it.channel_id).collect();
        assert_eq!(names, [CHANNEL]);
    }

    let other = Network::of_channel("other");
    let genesis = other.genesis_bytes();
    let refused = bench
        .call(&Call::new(&user, "", "cscc", &[b"JoinChain", &genesis]))
        .await
        .unwrap_err();
    assert!(
        refused.starts_with(
            "access denied for [JoinChain][other]: [Failed verifying that proposal's creator \
             satisfies local MSP principal during channelless check policy with policy [Admins]: ["
        ),
        "{refused}"
    );
    assert_eq!(bench.channels.ids(), [CHANNEL]);

    let again = bench.network.genesis_bytes();
    assert_eq!(
        bench
            .call(&Call::new(&admin, "", "cscc", &[b"JoinChain", &again]))
            .await
            .unwrap_err(),
        "cannot create ledger from genesis block: ledger [testchannel] already exists with state \
         [ACTIVE]"
    );
}

#[tokio::test]
async fn only_a_genesis_block_joins_a_channel() {
    let mut bench = Bench::new().await;
    let admin = bench.network.admin(1);
    let join = async |bench: &Bench, block: &[u8]| {
        bench
            .call(&Call::new(&admin, "", "cscc", &[b"JoinChain", block]))
            .await
            .unwrap_err()
    };
    let error = join(&bench, b"\xff").await;
    assert!(
        error.starts_with("Failed to reconstruct the genesis block, "),
        "{error}"
    );
    assert_eq!(
        join(&bench, b"").await,
        "\"JoinChain\" request failed to extract channel id from the block due to [failed to \
         retrieve channel id - block is empty]"
    );
    let transactions = bench.chain.push(&["a"]).encode_to_vec();
    let text = "\"JoinChain\" for channelID = testchannel failed because of validation of \
                configuration block, because of ";
    let error = join(&bench, &transactions).await;
    assert!(error.starts_with(text), "{error}");
    let mut altered = Network::new().genesis;
    altered.header.as_mut().unwrap().data_hash = vec![7; 32].into();
    let error = join(&bench, &altered.encode_to_vec()).await;
    assert!(error.starts_with(text), "{error}");
}

#[tokio::test]
async fn wrong_calls_are_answered_in_fabrics_words() {
    let cases: [(&str, &[&str], &str); 16] = [
        ("cscc", &[], "Incorrect number of arguments, 0"),
        ("cscc", &["JoinChain"], "Incorrect number of arguments, 1"),
        (
            "cscc",
            &["GetConfigBlock"],
            "Incorrect number of arguments, 1",
        ),
        (
            "cscc",
            &["Dance", "a"],
            "Requested function Dance not found.",
        ),
        (
            "cscc",
            &["GetChannelConfig", ""],
            "empty channel name provided",
        ),
        (
            "cscc",
            &["GetConfigBlock", "nowhere"],
            "access denied for [GetConfigBlock][nowhere]: Failed to get policy manager for \
             channel [nowhere]",
        ),
        (
            "qscc",
            &["GetChainInfo"],
            "Incorrect number of arguments, 1",
        ),
        (
            "qscc",
            &["GetBlockByNumber", CHANNEL],
            "missing 3rd argument for GetBlockByNumber",
        ),
        (
            "qscc",
            &["GetChainInfo", "nowhere"],
            "Invalid chain ID, nowhere",
        ),
        (
            "qscc",
            &["Dance", CHANNEL, "a"],
            "access denied for [Dance][testchannel]: [Unmapped policy for qscc/Dance]",
        ),
        (
            "qscc",
            &["GetBlockByNumber", CHANNEL, "one"],
            "Failed to parse block number with error strconv.ParseUint: parsing \"one\": invalid \
             syntax",
        ),
        (
            "qscc",
            &["GetBlockByNumber", CHANNEL, "99999999999999999999"],
            "Failed to parse block number with error strconv.ParseUint: parsing \
             \"99999999999999999999\": value out of range",
        ),
        (
            "qscc",
            &["GetBlockByNumber", CHANNEL, "7"],
            "Failed to get block number 7, error no such block number [7] in index",
        ),
        (
            "qscc",
            &["GetBlockByHash", CHANNEL, "x"],
            "Failed to get block hash x, error no such block hash [78] in index",
        ),
        (
            "qscc",
            &["GetTransactionByID", CHANNEL, "x"],
            "Failed to get transaction with id x, error no such transaction ID [x] in index",
        ),
        (
            "qscc",
            &["GetBlockByTxID", CHANNEL, "x"],
            "Failed to get block for txID x, error no such transaction ID [x] in index",
        ),
    ];
    let bench = Bench::new().await;
    let admin = bench.network.admin(1);
    for (chaincode, arguments, text) in cases {
        let arguments: Vec<_> = arguments.iter().map(|it| it.as_bytes()).collect();
        let call = Call::new(&admin, "", chaincode, &arguments);
        assert_eq!(bench.call(&call).await.unwrap_err(), text);
    }
}

#[tokio::test]
async fn blocks_and_transactions_are_found() {
    let mut bench = Bench::new().await;
    let block = bench.commit();
    let user = bench.network.user(2);
    let channel = CHANNEL.as_bytes();
    let query = async |arguments: &[&[u8]]| {
        let call = Call::new(&user, CHANNEL, "qscc", arguments);
        bench.call(&call).await.unwrap()
    };
    let hash = header_hash(block.header.as_ref().unwrap());
    let info = BlockchainInfo::decode(query(&[b"GetChainInfo", channel]).await).unwrap();
    assert_eq!(info.height, 2);
    assert_eq!(info.current_block_hash, &hash[..]);

    let newest = u64::MAX.to_string();
    let id = id_in(&block, 1);
    for arguments in [
        [&b"GetBlockByNumber"[..], channel, b"1"],
        [b"GetBlockByNumber", channel, newest.as_bytes()],
        [b"GetBlockByHash", channel, &hash],
        [b"GetBlockByTxID", channel, id.as_bytes()],
    ] {
        let found = Block::decode(query(&arguments).await).unwrap();
        assert_eq!(found, block);
    }
    let found = query(&[b"GetTransactionByID", channel, id.as_bytes()]).await;
    let found = ProcessedTransaction::decode(found).unwrap();
    let envelope = found.transaction_envelope.unwrap().encode_to_vec();
    assert_eq!(envelope, block.data.as_ref().unwrap().data[1]);

    let config = bench.chain.blocks[0].clone();
    let call = Call::new(&user, "", "cscc", &[b"GetConfigBlock", channel]);
    // Without a channel only the peer's own organisation is known.
    assert!(bench.process(call.signed()).await.is_err());
    let member = bench.network.user(1);
    let call = Call::new(&member, "", "cscc", &[b"GetConfigBlock", channel]);
    let found = Block::decode(bench.call(&call).await.unwrap()).unwrap();
    assert_eq!((found.header, found.data), (config.header, config.data));
    let verdicts = &found.metadata.unwrap().metadata[2];
    assert_eq!(verdicts[..], [0], "who joins declares block 0 valid");
    let call = Call::new(&member, CHANNEL, "cscc", &[b"GetChannelConfig", channel]);
    let found = Config::decode(bench.call(&call).await.unwrap()).unwrap();
    let channel = bench.channels.get(CHANNEL).unwrap();
    assert_eq!(&found, channel.config().config());
}

#[tokio::test]
async fn answers_for_a_channel_are_endorsed() {
    let bench = Bench::new().await;
    let user = bench.network.user(2);
    let arguments: [&[u8]; 2] = [b"GetChainInfo", CHANNEL.as_bytes()];
    let call = Call::new(&user, CHANNEL, "qscc", &arguments);
    let signed = call.signed();
    let answer = bench.process(signed.clone()).await.unwrap();
    let endorsement = answer.endorsement.unwrap();
    let peer = bench.network.peer(1);
    assert_eq!(&endorsement.endorser, peer.serialized());
    let message = [answer.payload.as_ref(), peer.serialized()].concat();
    peer.identity()
        .verify(&message, &endorsement.signature)
        .unwrap();
    let payload = ProposalResponsePayload::decode(answer.payload).unwrap();
    let action = ChaincodeAction::decode(payload.extension).unwrap();
    assert_eq!(action.response, answer.response);
    assert_eq!(action.chaincode_id.unwrap().version, "syscc");
    assert!(bench.metric("endorser_successful_proposals 1"));

    // Without a channel there is nothing to endorse.
    let member = bench.network.user(1);
    let call = Call::new(&member, "", "qscc", &arguments);
    let answer = bench.process(call.signed()).await.unwrap();
    assert_eq!(answer.endorsement, None);
    assert_eq!(answer.response.unwrap().status, 200);
}

#[tokio::test]
async fn acls_of_the_channel_take_the_place_of_the_default() {
    let mut bench = Bench::new().await;
    let info: [&[u8]; 2] = [b"GetChainInfo", CHANNEL.as_bytes()];
    let (admin, user) = (bench.network.admin(2), bench.network.user(2));
    bench
        .call(&Call::new(&user, CHANNEL, "qscc", &info))
        .await
        .unwrap();
    bench
        .reconfigure(|config| {
            set_acl(
                config,
                "qscc/GetChainInfo",
                "/Channel/Application/Org2/Admins",
            )
        })
        .await;
    let refused = bench
        .call(&Call::new(&user, CHANNEL, "qscc", &info))
        .await
        .unwrap_err();
    assert!(
        refused.starts_with(
            "access denied for [GetChainInfo][testchannel]: [failed evaluating policy on signed \
             data during check policy [/Channel/Application/Org2/Admins]: ["
        ),
        "{refused}"
    );
    bench
        .call(&Call::new(&admin, CHANNEL, "qscc", &info))
        .await
        .unwrap();
}
